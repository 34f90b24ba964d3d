/**
 * Asks the layers of a cache one after the other until one of them answers. Knows no cache.
 * Invariant: a layer that throws, has nothing, answers no object or takes too long is passed by, and how each of them
 * ended and how long it took is measured; the caller's own signal ends all of it.
 */

import type * as Public from '../../index.js';
import { time } from '../arguments.js';
import {
  BcosCacheError,
  DeadlineError,
  errorOf,
  InvalidArgumentError,
  NotFoundError,
  SourceUnavailableError,
} from '../errors.js';
import type { Layer, Whose } from './definition.js';

/** What a layer has answered. */
export interface Answer {
  /** JSON of the value and its `performance`. */
  readonly json: string;
  readonly layer: string;
}

interface Failure {
  readonly name: string;
  readonly error: unknown;
}

/** Milliseconds, to the microsecond. */
export const since = (from: number): number => Math.round((performance.now() - from) * 1_000) / 1_000;

/**
 * @param before what was asked before the layers, and how that ended.
 * @param signal of a caller for whom alone the layers are asked.
 */
export async function askLayers(
  layers: readonly Layer[],
  { scopeKey }: Whose,
  before: readonly Public.LayerTiming[],
  signal?: AbortSignal | undefined,
): Promise<Answer> {
  const from = performance.now();
  const tiers = [...before];
  const failures: Failure[] = [];
  for (const layer of layers) {
    signal?.throwIfAborted();
    const begun = performance.now();
    const dates: { last?: string } = {};
    try {
      const value = await inTime(layer, signal, (ending) =>
        layer.load({
          scopeKey,
          signal: ending,
          setLastUpdated: (at) => {
            dates.last = new Date(time('lastUpdated', at)).toISOString();
          },
        }),
      );
      if (value !== null && value !== undefined) {
        const body = json(`the result of layer ${layer.name}`, value);
        tiers.push({ layer: layer.name, ms: since(begun), outcome: 'hit' });
        const figures: Public.LayeredPerformance = {
          queryTime: since(from),
          cacheHit: false,
          cacheLayer: layer.name,
          lastUpdated: dates.last ?? new Date().toISOString(),
          tiers,
        };
        return { json: withLast(body, 'performance', figures), layer: layer.name };
      }
      tiers.push({ layer: layer.name, ms: since(begun), outcome: 'miss' });
      failures.push({ name: layer.name, error: new NotFoundError(`layer ${layer.name} has nothing`) });
    } catch (error) {
      signal?.throwIfAborted();
      tiers.push({ layer: layer.name, ms: since(begun), outcome: 'failed' });
      failures.push({ name: layer.name, error });
    }
  }
  throw failure(failures);
}

/** The layer's answer within its time, after which its signal ends. */
async function inTime(
  { name, timeoutMs }: Layer,
  signal: AbortSignal | undefined,
  load: (ending: AbortSignal) => unknown,
): Promise<unknown> {
  const ending = new AbortController();
  return new Promise((resolve, reject) => {
    const end = (reason: unknown) => {
      clearTimeout(timer);
      reject(reason);
      ending.abort(reason);
    };
    const late = new DeadlineError(`layer ${name} did not answer within ${timeoutMs} ms`);
    const timer = setTimeout(end, timeoutMs, late);
    const aborted = () => end(signal?.reason);
    signal?.addEventListener('abort', aborted, { once: true });
    // Inside an async function: a layer that throws at once fails like one that rejects.
    const loaded = (async () => load(ending.signal))();
    loaded.then(resolve, reject).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
    });
  });
}

/** JSON of a value that shall be stored as an object, without a `performance` of its own. */
export function json(field: string, value: unknown): string {
  const refuse = (why: string, cause?: unknown) =>
    new InvalidArgumentError(`${field} is not accepted: ${why}`, { field, cause });
  if (typeof value !== 'object' || value === null) throw refuse('an object is expected');
  const plain = 'performance' in value ? { ...value, performance: undefined } : value;
  let written: string | undefined;
  try {
    written = JSON.stringify(plain);
  } catch (cause) {
    throw refuse('JSON cannot carry it', cause);
  }
  if (written?.startsWith('{')) return written;
  throw refuse('an object that JSON carries as an object is expected');
}

/** The text of an object with one more property at its end. */
function withLast(body: string, name: string, value: object): string {
  return `${body.slice(0, -1)}${body === '{}' ? '' : ','}${JSON.stringify(name)}:${JSON.stringify(value)}}`;
}

/** Errors that were made here. */
const made = new WeakSet<object>();

/** Whether an error says that every layer was asked and none answered. */
export function allFailed(error: unknown): error is BcosCacheError {
  return typeof error === 'object' && error !== null && made.has(error);
}

/** The error of the last layer, of its class, with those of all of them behind it. */
function failure(failures: readonly Failure[]): BcosCacheError {
  const names = failures.map(({ name }) => name).join(', ');
  const cause = new AggregateError(
    failures.map(({ error }) => error),
    `what the layers said: ${names}`,
  );
  const last = failures.at(-1)?.error;
  const own = last instanceof BcosCacheError;
  const message = `no layer answered (${names})${own ? `; the last said: ${last.message}` : ''}`;
  const error = own
    ? errorOf(last.code, message, {
        field: last.field,
        reason: last.reason,
        retryable: last.retryable,
        cause,
      })
    : new SourceUnavailableError(message, { cause });
  made.add(error);
  return error;
}
