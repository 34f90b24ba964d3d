/**
 * Checks of what the application passes, before it crosses. Not a validation of meaning: that is the native
 * side's. Invariant: a bad argument is an `InvalidArgumentError` that names it, thrown inside an async function.
 */

import { BOUNDED, type Consistency, FRESH, VALIDATED } from './consistency.js';
import { DeadlineError, InvalidArgumentError } from './errors.js';

export interface CallOptions {
  signal?: AbortSignal | undefined;
  deadlineMs?: number | undefined;
}

export interface InvalidateOptions extends CallOptions {
  holdMs?: number | undefined;
}

const LONGEST_DEADLINE_MS = 600_000;
/** Longer than any transaction should stay open. */
const LONGEST_HOLD_MS = 60_000;
/** Ends up in log records: short, and nothing that could break a line or carry an address. */
const REASON = /^[A-Za-z0-9_.:-]{0,64}$/;

/**
 * A well-formed string, or a refusal that says what was given instead. Halves of surrogate pairs all turn into
 * one character on their way across, so two different ids would become one.
 */
export function text(field: string, value: unknown): string {
  if (typeof value === 'string') {
    if (value.isWellFormed()) return value;
    throw new InvalidArgumentError(`${field} is not accepted: well-formed text is expected`, { field });
  }
  const given = value === null ? 'null' : typeof value;
  throw new InvalidArgumentError(`${field} is not accepted: a string is expected, ${given} was given`, {
    field,
  });
}

/** A string that may be left out. */
export function optionalText(field: string, value: unknown): string | null {
  return value === undefined || value === null ? null : text(field, value);
}

/** Milliseconds for the native side; 0 = its default. */
export function deadline(options: CallOptions | undefined): number {
  const given = options?.deadlineMs;
  if (given === undefined) return 0;
  if (Number.isInteger(given) && given >= 1 && given <= LONGEST_DEADLINE_MS) return given;
  const accepted = `a whole number of milliseconds between 1 and ${LONGEST_DEADLINE_MS}`;
  throw new InvalidArgumentError(`deadlineMs is not accepted: ${accepted}`, { field: 'deadlineMs' });
}

/** The options for the next step of a call that has taken until now; `until` is when its time budget ends. */
export function remaining(options: CallOptions | undefined, until: number): CallOptions | undefined {
  if (options?.deadlineMs === undefined) return options;
  const left = Math.ceil(until - performance.now());
  if (left <= 0) throw new DeadlineError(`no answer within ${options.deadlineMs} ms`);
  return { signal: options.signal, deadlineMs: left };
}

/** Checks the options of a call that is answered without crossing. */
export function check(options: CallOptions): void {
  deadline(options);
  options.signal?.throwIfAborted();
}

/** A time as Unix milliseconds. */
export function time(field: string, value: unknown): number {
  const ms = value instanceof Date ? value.getTime() : typeof value === 'string' ? Date.parse(value) : value;
  if (typeof ms === 'number' && Number.isFinite(ms)) return ms;
  const accepted = 'a valid Date, an ISO-8601 string, or Unix milliseconds';
  throw new InvalidArgumentError(`${field} is not accepted: ${accepted}`, { field });
}

/** How current a context must be. */
export function consistency(value: unknown): Consistency {
  switch (value) {
    case undefined:
    case 'validated':
      return VALIDATED;
    case 'bounded':
      return BOUNDED;
    case 'fresh':
      return FRESH;
    default:
      throw new InvalidArgumentError(
        "consistency is not accepted: 'validated', 'bounded' or 'fresh' is expected",
        {
          field: 'consistency',
        },
      );
  }
}

/** Why something is invalidated, for the log; empty when nothing is said. */
export function reasonText(value: unknown): string {
  if (value === undefined) return '';
  if (typeof value === 'string' && REASON.test(value)) return value;
  const accepted = 'at most 64 characters of A-Z, a-z, 0-9 and _.:- are expected';
  throw new InvalidArgumentError(`reason is not accepted: ${accepted}`, { field: 'reason' });
}

/** How long fills are refused after an invalidation; 0 = not at all. */
export function hold(options: InvalidateOptions | undefined): number {
  const given = options?.holdMs;
  if (given === undefined) return 0;
  if (Number.isInteger(given) && given >= 1 && given <= LONGEST_HOLD_MS) return given;
  const accepted = `a whole number of milliseconds between 1 and ${LONGEST_HOLD_MS}`;
  throw new InvalidArgumentError(`holdMs is not accepted: ${accepted}`, { field: 'holdMs' });
}

/** JSON of a plain object. */
export function json(field: string, value: unknown): string {
  const refuse = (why: string, cause?: unknown) =>
    new InvalidArgumentError(`${field} is not accepted: ${why}`, { field, cause });
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse('an object is expected');
  try {
    const written: string | undefined = JSON.stringify(value);
    if (written?.startsWith('{')) return written;
  } catch (cause) {
    throw refuse('an object that JSON can carry is expected', cause);
  }
  throw refuse('an object that JSON carries as an object is expected');
}

/** The promise, or the reason of the signal, whichever comes first. What was submitted goes on. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
