/**
 * One state of authorization for one request: the first context that was read for a user stays the one for the
 * rest of it. Not a cache between requests.
 * Invariant: a snapshot ends with the function it was opened for, and after a minute at the latest: work that
 * outlives the request (a timer, a connection opened on the way) must not keep on seeing its state.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import type * as Public from '../index.js';
import { InvalidArgumentError } from './errors.js';

/** An authorization older than this is not believed, however long the request takes. */
const LONGEST_MS = 60_000;
/** A request that looks at more users than this is a batch; the later ones are read each time. */
const MOST_CONTEXTS = 1_000;

export class Snapshot {
  /** By engine and user id: engines may have different sources. */
  readonly #contexts = new Map<object, Map<string, Public.UserContext>>();
  readonly #until = performance.now() + LONGEST_MS;
  #ended = false;
  #count = 0;
  /** Changes with every invalidation: what was asked for before one is not kept after it. */
  version = 0;

  get open(): boolean {
    return !this.#ended && performance.now() < this.#until;
  }

  get(engine: object, userId: string): Public.UserContext | undefined {
    return this.#contexts.get(engine)?.get(userId.toLowerCase());
  }

  /** The context of the request: the one that was kept first, else this one, read when `version` was current. */
  keep(engine: object, context: Public.UserContext, version: number): Public.UserContext {
    if (version !== this.version || !this.open) return context;
    let contexts = this.#contexts.get(engine);
    if (contexts === undefined) {
      contexts = new Map();
      this.#contexts.set(engine, contexts);
    }
    const userId = context.user_id.toLowerCase();
    const first = contexts.get(userId);
    if (first !== undefined) return first;
    if (this.#count < MOST_CONTEXTS) {
      this.#count += 1;
      contexts.set(userId, context);
    }
    return context;
  }

  /** Something was invalidated: the request sees its own writes. */
  drop(): void {
    this.version += 1;
    this.#count = 0;
    this.#contexts.clear();
  }

  end(): void {
    this.#ended = true;
    this.drop();
  }
}

const storage = new AsyncLocalStorage<Snapshot>();

/** The snapshot of the running request, if it has one. */
export function currentSnapshot(): Snapshot | undefined {
  const snapshot = storage.getStore();
  return snapshot?.open ? snapshot : undefined;
}

/** Runs `body` in a snapshot; inside an open one it joins that. */
export async function withRequestSnapshot<T>(body: () => T | PromiseLike<T>): Promise<T> {
  if (typeof body !== 'function') {
    throw new InvalidArgumentError('fn is not accepted: a function is expected', { field: 'fn' });
  }
  if (currentSnapshot() !== undefined) return body();
  const snapshot = new Snapshot();
  try {
    return await storage.run(snapshot, body);
  } finally {
    snapshot.end();
  }
}

/** Passes an invalidation on; the snapshot it was made in is dropped when it begins and when it has ended. */
export async function dropping<T>(invalidation: Promise<T>): Promise<T> {
  const snapshot = currentSnapshot();
  if (snapshot === undefined) return invalidation;
  snapshot.drop();
  try {
    return await invalidation;
  } finally {
    snapshot.drop();
  }
}
