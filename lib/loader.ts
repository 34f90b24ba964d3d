/**
 * Hit, lead, wait: loaders of the application run here, on the JavaScript thread, so that their
 * `AsyncLocalStorage` survives; the native side decides who runs one. Not a cache.
 * Invariant: every ticket that was handed out is ended, with a value or as failed.
 */

import { abortable, type CallOptions, deadline } from './arguments.js';
import { DeadlineError } from './errors.js';
import { type BeginReply, LEAD, LOADER_FAILED } from './native.js';

/** Errors of loaders that others may still be waiting for; the oldest go first. */
const REMEMBERED = 256;

export interface Protocol<T> {
  /** Asks the native side; `full` = with the text of what it finds. */
  begin(full: boolean): Promise<BeginReply>;
  /** What was found, unless only its number came and this side does not know it. */
  found(serial: number, text: string | undefined): T | undefined;
  /** What was found, when it was asked for as bytes. */
  bytes?(json: Buffer): T;
  /** Runs the application's loader. */
  load(): T | Promise<T>;
  /** The JSON to store, or a throw when the loader's value is not acceptable. */
  encode(loaded: T): string;
  /** Ends ticket `lead`; `null` = the loader failed. */
  end(lead: number, json: string | null): Promise<unknown>;
  /** What the caller gets: the form that a later hit will have. */
  decode(json: string, serial: number): T;
}

export class Loader {
  readonly #failures = new Map<number, unknown>();

  /** The value; `signal` and `deadlineMs` end the waiting, not a loader that runs already. */
  async run<T>(protocol: Protocol<T>, options: CallOptions | undefined): Promise<T> {
    const signal = options?.signal;
    const until = performance.now() + deadline(options);
    let reply = await this.#begin(protocol, false, signal);
    if (typeof reply === 'number') {
      const known = protocol.found(reply, undefined);
      if (known !== undefined) return known;
      reply = await this.#begin(protocol, true, signal);
    }
    if (typeof reply === 'number') throw new Error('the native side gave no text although it was asked to');
    if (Buffer.isBuffer(reply)) return protocol.bytes?.(reply) as T;
    if (typeof reply === 'string') return protocol.found(0, reply) as T;
    const [first, second] = reply;
    if (typeof second === 'string') return protocol.found(first, second) as T;
    if (first === LEAD) return abortable(timely(this.#lead(protocol, second), options, until), signal);
    if (first === LOADER_FAILED && this.#failures.has(second)) throw this.#failures.get(second);
    // The loader that failed ran on another thread, and its error stays there: this call runs its own.
    return abortable(timely(this.#lead(protocol, 0), options, until), signal);
  }

  async #lead<T>(protocol: Protocol<T>, lead: number): Promise<T> {
    let json: string;
    try {
      json = protocol.encode(await protocol.load());
    } catch (error) {
      if (lead > 0) {
        this.#remember(lead, error);
        await protocol.end(lead, null);
      }
      throw error;
    }
    const serial = lead > 0 ? await protocol.end(lead, json) : 0;
    return protocol.decode(json, typeof serial === 'number' ? serial : 0);
  }

  async #begin<T>(
    protocol: Protocol<T>,
    full: boolean,
    signal: AbortSignal | undefined,
  ): Promise<BeginReply> {
    const begun = protocol.begin(full);
    try {
      return await abortable(begun, signal);
    } catch (reason) {
      this.#release(protocol, begun);
      throw reason;
    }
  }

  /** The caller went away while the native side was asked: a ticket that still comes is given back. */
  #release<T>(protocol: Protocol<T>, begun: Promise<BeginReply>): void {
    const back = async () => {
      const reply = await begun;
      if (Array.isArray(reply) && reply[0] === LEAD && typeof reply[1] === 'number') {
        if (reply[1] > 0) await protocol.end(reply[1], null);
      }
    };
    back().catch(() => undefined);
  }

  #remember(lead: number, error: unknown): void {
    this.#failures.set(lead, error);
    for (const oldest of this.#failures.keys()) {
      if (this.#failures.size <= REMEMBERED) break;
      this.#failures.delete(oldest);
    }
  }
}

/** The promise, or `E_DEADLINE` at `until` when the call has a deadline of its own. */
export function timely<T>(promise: Promise<T>, options: CallOptions | undefined, until: number): Promise<T> {
  const given = options?.deadlineMs;
  if (given === undefined) return promise;
  return new Promise<T>((resolve, reject) => {
    const late = () => reject(new DeadlineError(`no answer within ${given} ms`));
    const timer = setTimeout(late, Math.max(0, until - performance.now()));
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
