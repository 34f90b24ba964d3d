/**
 * One warm of a data source: ordered, followed, and stopped when the caller says so. The warming is the native side's.
 * Invariant: a listener that throws stops nothing, and a caller who goes away stops only a warm of their own.
 */

import type * as Public from '../../index.js';
import { InvalidArgumentError } from '../errors.js';
import type { NativeEngine } from '../native.js';

/** As the native side tells it. */
interface News extends Public.WarmProgress {
  readonly version: number;
  readonly ended: boolean;
  /** Once it has ended. */
  readonly result: Public.WarmResult | null;
}

export async function warm(
  native: NativeEngine,
  datasourceId: number,
  options: Public.WarmOptions | undefined,
): Promise<Public.WarmResult> {
  const { force, onProgress, signal } = read(options);
  signal?.throwIfAborted();
  const job = native.warmAnalytics(datasourceId, force);
  const stop = () => native.stopAnalytics(job);
  signal?.addEventListener('abort', stop, { once: true });
  try {
    return await follow(native, job, onProgress);
  } catch (error) {
    // Stopped by the caller: their own reason says more than ours.
    signal?.throwIfAborted();
    throw error;
  } finally {
    signal?.removeEventListener('abort', stop);
  }
}

async function follow(
  native: NativeEngine,
  job: number,
  onProgress: Public.WarmOptions['onProgress'],
): Promise<Public.WarmResult> {
  let seen = 0;
  for (;;) {
    const news = JSON.parse(await native.analyticsNews(job, seen)) as News;
    const { version, ended, result, ...progress } = news;
    if (version > seen) tell(onProgress, progress);
    if (ended && result !== null) return result;
    seen = version;
  }
}

function tell(onProgress: Public.WarmOptions['onProgress'], progress: Public.WarmProgress): void {
  try {
    onProgress?.(progress);
  } catch {
    // Its own affair.
  }
}

function read(options: Public.WarmOptions | undefined) {
  const { force = false, onProgress, signal } = options ?? {};
  if (typeof force !== 'boolean') throw refused('force', 'true or false is expected');
  if (onProgress !== undefined && typeof onProgress !== 'function')
    throw refused('onProgress', 'a function is expected');
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw refused('signal', 'an AbortSignal is expected');
  return { force, onProgress, signal };
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
