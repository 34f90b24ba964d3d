/**
 * Values of the application under its own keys: the first verbs of S5's `redisCacheService`. Not their meaning, and
 * no policy: whether a value is current is decided on the native side.
 * Invariant: what a caller computes and what a later caller reads have the same form, the one that JSON carries.
 */

import type * as Public from '../index.js';
import { abortable, type CallOptions, deadline, text } from './arguments.js';
import { InvalidArgumentError } from './errors.js';
import type { Loader } from './loader.js';
import type { BeginReply, InvalidationReply, NativeEngine, ObjectReply } from './native.js';
import type { Objects } from './objects.js';

export class Values implements Public.RedisCacheService {
  readonly #native: NativeEngine;
  readonly #objects: Objects;
  readonly #loader: Loader;

  constructor(native: NativeEngine, objects: Objects, loader: Loader) {
    this.#native = native;
    this.#objects = objects;
    this.#loader = loader;
  }

  async get<T = unknown>(key: string, options?: CallOptions): Promise<T | null> {
    const name = text('key', key);
    for (const full of [false, true]) {
      const asked = this.#native.cachedValue(name, full, deadline(options)) as Promise<ObjectReply>;
      const reply = await abortable(asked, options?.signal);
      if (reply === null) return null;
      const known: unknown = this.#objects.of(reply);
      if (known !== undefined) return known as T;
    }
    return null;
  }

  async set(key: string, value: unknown, ttlSeconds: number, options?: CallOptions): Promise<boolean> {
    const stored = this.#native.setValue(
      text('key', key),
      json('value', value),
      milliseconds(ttlSeconds),
      deadline(options),
    );
    return abortable(stored as Promise<boolean>, options?.signal);
  }

  async del(key: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    const reply = this.#native.deleteValue(text('key', key), deadline(options)) as Promise<InvalidationReply>;
    const [acknowledged, queued] = await abortable(reply, options?.signal);
    return { acknowledged, queued };
  }

  async getOrSet<T>(
    key: string,
    compute: () => T | Promise<T>,
    ttlSeconds: number,
    options?: CallOptions,
  ): Promise<T> {
    const name = text('key', key);
    if (typeof compute !== 'function') {
      throw new InvalidArgumentError('compute is not accepted: a function is expected', { field: 'compute' });
    }
    const ttlMs = milliseconds(ttlSeconds);
    return (await this.#loader.run<unknown>(
      {
        begin: (full) => this.#native.beginValue(name, ttlMs, full, deadline(options)) as Promise<BeginReply>,
        found: (serial, written) => this.#objects.of(written === undefined ? serial : [serial, written]),
        load: compute,
        encode: (loaded) => json('the result of compute', loaded),
        end: (lead, written) => this.#native.endLead(lead, written) as Promise<unknown>,
        decode: (written, serial) => this.#objects.parse(serial, written),
      },
      options,
    )) as T;
  }
}

/** JSON of any value that JSON carries: `undefined` and functions are none, and neither is null, which is a miss. */
function json(field: string, value: unknown): string {
  let written: string | undefined;
  try {
    written = value === null ? undefined : JSON.stringify(value);
  } catch (cause) {
    throw new InvalidArgumentError(`${field} is not accepted: JSON cannot carry it`, { field, cause });
  }
  // What its own toJSON makes null of would be read back as a miss, too.
  if (written !== undefined && written !== 'null') return written;
  const why = 'null and undefined cannot be told from a miss; wrap them in an object';
  throw new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}

function milliseconds(ttlSeconds: unknown): number {
  if (typeof ttlSeconds === 'number' && ttlSeconds > 0 && ttlSeconds <= 2_592_000) {
    return Math.max(1, Math.round(ttlSeconds * 1_000));
  }
  const accepted = 'a number of seconds above 0 and at most 2592000 (30 days)';
  throw new InvalidArgumentError(`ttl is not accepted: ${accepted}`, { field: 'ttl' });
}
