/**
 * Hit, lead, wait: loaders of the application run here, on the JavaScript thread, so that their
 * `AsyncLocalStorage` survives; the native side decides who runs one. Not a cache.
 * Invariant: every ticket that was handed out is ended, with a value or as failed.
 */

import { abortable } from './arguments.js';
import { type BeginReply, LEAD, LOADER_FAILED } from './native.js';

/** Errors of loaders that others may still be waiting for; the oldest go first. */
const REMEMBERED = 256;

export interface Protocol<T> {
  /** Asks the native side. */
  begin(): Promise<BeginReply>;
  /** An object that the native side knows. */
  found(serial: number, text: string | undefined): T | Promise<T>;
  /** Runs the application's loader. */
  load(): T | Promise<T>;
  /** The JSON to store, or a throw when the loader's value is not acceptable. */
  encode(loaded: T): string;
  /** Ends ticket `lead`; `null` = the loader failed. */
  end(lead: number, json: string | null): Promise<unknown>;
  /** What the caller gets: the form that a later hit will have. */
  decode(json: string): T;
}

export class Loader {
  readonly #failures = new Map<number, unknown>();

  async run<T>(protocol: Protocol<T>, signal: AbortSignal | undefined): Promise<T> {
    const begun = protocol.begin();
    const reply = await abortable(begun, signal).catch((reason: unknown) => {
      this.#release(protocol, begun);
      throw reason;
    });
    if (typeof reply === 'number') return protocol.found(reply, undefined);
    const [first, second] = reply;
    if (typeof second === 'string') return protocol.found(first, second);
    if (first === LEAD) return abortable(this.#lead(protocol, second), signal);
    if (first === LOADER_FAILED && this.#failures.has(second)) throw this.#failures.get(second);
    // The loader that failed ran on another thread, and its error stays there: this call runs its own.
    return abortable(this.#lead(protocol, 0), signal);
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
    if (lead > 0) await protocol.end(lead, json);
    return protocol.decode(json);
  }

  /** The caller went away while the native side was asked: a ticket that still comes is given back. */
  #release<T>(protocol: Protocol<T>, begun: Promise<BeginReply>): void {
    const back = async () => {
      const reply = await begun;
      if (typeof reply !== 'number' && reply[0] === LEAD && typeof reply[1] === 'number') {
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
