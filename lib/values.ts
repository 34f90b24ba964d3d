/**
 * Values of the application under its own keys: S5's `redisCacheService`. Not their meaning, and no policy: whether a
 * value is current is decided on the native side.
 * Invariant: what a caller computes and what a later caller reads have the same form, the one that JSON carries; reads
 * that cannot be answered are misses, removals that cannot be carried out are errors.
 */

import type * as Public from '../index.js';
import { abortable, type CallOptions, deadline, text } from './arguments.js';
import { BcosCacheError, InvalidArgumentError } from './errors.js';
import { shortened } from './jitter.js';
import type { Loader } from './loader.js';
import type { BeginReply, InvalidationReply, NativeEngine, ObjectReply } from './native.js';
import type { Objects } from './objects.js';
import { ValueCounts } from './value-counts.js';

/** A counter that says nothing else lives for a day. */
const COUNTER_SECONDS = 86_400;
const LONGEST_SECONDS = 2_592_000;
/** What native calls say instead of a number of milliseconds. */
const ABSENT = -2;

export class Values implements Public.RedisCacheService {
  readonly #native: NativeEngine;
  readonly #objects: Objects;
  readonly #loader: Loader;
  readonly #counts = new ValueCounts();

  constructor(native: NativeEngine, objects: Objects, loader: Loader) {
    this.#native = native;
    this.#objects = objects;
    this.#loader = loader;
  }

  async get<T = unknown>(key: string, options?: CallOptions): Promise<T | null> {
    const name = text('key', key);
    for (const full of [false, true]) {
      const asked = this.#native.cachedValue(name, full, deadline(options)) as Promise<ObjectReply>;
      const reply = await this.#counted(asked, options);
      if (reply === null) break;
      const known: unknown = this.#objects.of(reply);
      if (known !== undefined) {
        this.#counts.hits += 1;
        return known as T;
      }
    }
    if (this.#native.available()) this.#counts.misses += 1;
    else this.#counts.errors += 1;
    return null;
  }

  async set(key: string, value: unknown, ttlSeconds: number, options?: CallOptions): Promise<boolean> {
    return this.#set(text('key', key), value, ttlSeconds, [], options);
  }

  async setWithTags(
    key: string,
    value: unknown,
    ttlSeconds: number,
    tags: readonly string[],
    options?: CallOptions,
  ): Promise<boolean> {
    if (!Array.isArray(tags) || tags.length === 0) {
      const message = 'tags is not accepted: an array of at least one text is expected';
      throw new InvalidArgumentError(message, { field: 'tags' });
    }
    const names = [...new Set(tags.map((tag) => text('tags', tag)))];
    return this.#set(text('key', key), value, ttlSeconds, names, options);
  }

  async #set(
    key: string,
    value: unknown,
    ttlSeconds: number,
    tags: string[],
    options: CallOptions | undefined,
  ): Promise<boolean> {
    const written = json('value', value);
    const asked = this.#native.setValue(key, written, milliseconds(ttlSeconds), tags, deadline(options));
    const stored = await this.#counted(asked as Promise<boolean>, options);
    if (stored) this.#counts.sets += 1;
    return stored;
  }

  async del(key: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    const reply = this.#native.deleteValue(text('key', key), deadline(options)) as Promise<InvalidationReply>;
    const [acknowledged, queued] = await this.#counted(reply, options);
    this.#counts.deletes += 1;
    return { acknowledged, queued };
  }

  async mget<T = unknown>(keys: readonly string[], options?: CallOptions): Promise<(T | null)[]> {
    // Calls of one turn travel together.
    return Promise.all(list('keys', keys).map((key) => this.get<T>(key as string, options)));
  }

  async mset(
    entries: readonly (readonly [key: string, value: unknown, ttlSeconds: number])[],
    options?: CallOptions,
  ): Promise<boolean> {
    const given = list('entries', entries) as typeof entries;
    // Nothing is stored when one of them cannot be.
    for (const [key, value, ttlSeconds] of given) {
      text('key', key);
      json('value', value);
      milliseconds(ttlSeconds);
    }
    const stored = await Promise.all(
      given.map(([key, value, ttlSeconds]) => this.set(key, value, ttlSeconds, options)),
    );
    return stored.every(Boolean);
  }

  async exists(key: string, options?: CallOptions): Promise<boolean> {
    return (await this.#life(key, options)) >= 0;
  }

  async ttl(key: string, options?: CallOptions): Promise<number> {
    const ms = await this.#life(key, options);
    return ms < 0 ? ms : Math.ceil(ms / 1_000);
  }

  async #life(key: string, options: CallOptions | undefined): Promise<number> {
    const asked = this.#native.valueLife(text('key', key), deadline(options)) as Promise<number>;
    const ms = await this.#counted(asked, options);
    if (ms < 0 && ms !== ABSENT) this.#counts.errors += 1;
    return ms;
  }

  async expire(key: string, ttlSeconds: number, options?: CallOptions): Promise<boolean> {
    const asked = this.#native.expireValue(text('key', key), milliseconds(ttlSeconds), deadline(options));
    return this.#counted(asked as Promise<boolean>, options);
  }

  async incr(key: string, delta = 1, options?: Public.CounterOptions): Promise<number> {
    return this.#count(key, whole(delta), options);
  }

  async decr(key: string, delta = 1, options?: Public.CounterOptions): Promise<number> {
    return this.#count(key, -whole(delta), options);
  }

  async #count(key: string, delta: number, options: Public.CounterOptions | undefined): Promise<number> {
    const ttlMs = milliseconds(options?.ttlSeconds ?? COUNTER_SECONDS);
    const asked = this.#native.countValue(text('key', key), delta, ttlMs, deadline(options));
    const sum = await this.#counted(asked as Promise<number | null>, options);
    if (sum === null) this.#counts.errors += 1;
    else this.#counts.sets += 1;
    return sum ?? 0;
  }

  async delPattern(pattern: string, options?: CallOptions): Promise<number> {
    return this.#removed(this.#native.deletePattern(text('pattern', pattern), long(options)), options);
  }

  async invalidateByTag(tag: string, options?: CallOptions): Promise<number> {
    return this.#removed(this.#native.invalidateTag(text('tags', tag), long(options)), options);
  }

  async flushAll(options?: CallOptions): Promise<number> {
    return this.#removed(this.#native.flush(long(options)), options);
  }

  async #removed(asked: unknown, options: CallOptions | undefined): Promise<number> {
    const count = await this.#counted(asked as Promise<number>, options);
    this.#counts.deletes += count;
    return count;
  }

  async info(options?: CallOptions): Promise<Public.StoreInfo> {
    const told = this.#native.storeInfo(deadline(options)) as Promise<string>;
    const { connected, keyCount, memoryBytes } = JSON.parse(await abortable(told, options?.signal)) as {
      connected: boolean;
      keyCount: number | null;
      memoryBytes: number | null;
    };
    return { connected, keyCount: keyCount ?? 0, memory: readable(memoryBytes) };
  }

  getMetrics(): Public.CacheServiceMetrics {
    return this.#counts.told();
  }

  resetMetrics(): void {
    this.#counts.reset();
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
    const ttlMs = shortened(milliseconds(ttlSeconds), Math.random());
    let computed = false;
    const value = (await this.#loader.run<unknown>(
      {
        begin: (full) => this.#native.beginValue(name, ttlMs, full, deadline(options)) as Promise<BeginReply>,
        found: (serial, written) => this.#objects.of(written === undefined ? serial : [serial, written]),
        load: () => {
          computed = true;
          return compute();
        },
        encode: (loaded) => json('the result of compute', loaded),
        end: (lead, written) => this.#native.endLead(lead, written) as Promise<unknown>,
        decode: (written, serial) => this.#objects.parse(serial, written),
      },
      options,
    )) as T;
    if (computed) this.#counts.misses += 1;
    else this.#counts.hits += 1;
    return value;
  }

  /** The answer; a failure that is not the caller's own is counted. */
  async #counted<T>(asked: Promise<T>, options: CallOptions | undefined): Promise<T> {
    try {
      return await abortable(asked, options?.signal);
    } catch (error) {
      if (error instanceof BcosCacheError && error.code !== 'E_INVALID_ARGUMENT') this.#counts.errors += 1;
      throw error;
    }
  }
}

/** Walking over a whole store takes longer than a read: ten minutes, unless the caller says otherwise. */
function long(options: CallOptions | undefined): number {
  return deadline(options) || 600_000;
}

function list(field: string, given: unknown): readonly unknown[] {
  if (Array.isArray(given)) return given;
  throw new InvalidArgumentError(`${field} is not accepted: an array is expected`, { field });
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
  if (typeof ttlSeconds === 'number' && ttlSeconds > 0 && ttlSeconds <= LONGEST_SECONDS) {
    return Math.max(1, Math.round(ttlSeconds * 1_000));
  }
  const accepted = `a number of seconds above 0 and at most ${LONGEST_SECONDS} (30 days)`;
  throw new InvalidArgumentError(`ttl is not accepted: ${accepted}`, { field: 'ttl' });
}

function whole(delta: unknown): number {
  if (Number.isSafeInteger(delta)) return delta as number;
  const accepted = 'a whole number between -(2^53 - 1) and 2^53 - 1';
  throw new InvalidArgumentError(`delta is not accepted: ${accepted}`, { field: 'delta' });
}

function readable(bytes: number | null): string {
  if (bytes === null) return 'N/A';
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let [size, unit] = [bytes, 0];
  while (size >= 1_024 && unit < units.length - 1) [size, unit] = [size / 1_024, unit + 1];
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}
