/**
 * Results of data sources: whose key, for how long, who runs the query. Not the query, which is the application's, and
 * not the decision whether a result is current, which is the native side's.
 * Invariant: a query runs at most once at a time per key and process, and as a rule over all processes; what it throws
 * reaches whoever waits for it and is never stored; its answer always arrives, whatever the cache does.
 */

import type * as Public from '../../index.js';
import { abortable, type CallOptions, check, deadline, text } from '../arguments.js';
import { BcosCacheError, InvalidArgumentError } from '../errors.js';
import { shortened } from '../jitter.js';
import type { Loader, Protocol } from '../loader.js';
import type { BeginReply, InvalidationReply, NativeEngine } from '../native.js';
import type { Objects } from '../objects.js';
import { Scope } from '../scope.js';
import { dataSourceKey } from './key.js';
import { lifetimeSeconds } from './lifetime.js';

/** As it is stored. The times come first, so that they are found without parsing the rest. */
interface Stored {
  readonly cached_at: string;
  readonly expires_at: string;
  readonly data: unknown;
  readonly query_time_ms: number;
}

type Query = () => Promise<object>;

/** One question. */
interface Question {
  readonly source: string;
  readonly hash: string;
  readonly ttlMs: number;
  readonly query: Query;
  readonly raw: boolean;
}

/** How often a refresh begins anew because somebody else was faster. */
const REFRESHES = 3;
/** A query takes as long as it takes: whoever waits for one is not sent away before. */
const LONGEST_MS = 600_000;
const CACHE_KEY = /^datasource:([A-Za-z0-9%._~-]+):([A-Za-z0-9_-]{1,64})$/;
const TIMES = /^\{"cached_at":"([^"]{1,40})","expires_at":"([^"]{1,40})"/;
/** The engine cannot answer; the query can. */
const PASSED_BY: ReadonlySet<string> = new Set<Public.ErrorCode>(['E_OVERLOADED', 'E_DEADLINE']);

export class DataSources {
  readonly #native: NativeEngine;
  readonly #objects: Objects;
  readonly #loader: Loader;

  constructor(native: NativeEngine, objects: Objects, loader: Loader) {
    this.#native = native;
    this.#objects = objects;
    this.#loader = loader;
  }

  async query(
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: Query,
    forceRefresh: boolean | undefined,
    options: Public.DataSourceOptions | undefined,
  ): Promise<unknown> {
    const question = read(params, userOrganizations, queryFunction, options);
    if (forceRefresh !== undefined && typeof forceRefresh !== 'boolean') {
      throw refused('forceRefresh', 'true or false is expected');
    }
    if (options !== undefined) check(options);
    const { value, ran } = await this.#answer(question, forceRefresh === true, options);
    const cacheKey = `datasource:${escaped(question.source)}:${question.hash}`;
    if (Buffer.isBuffer(value)) return { json: value, fromCache: !ran, cacheKey };
    return { ...(value as Stored), fromCache: !ran, cacheKey };
  }

  async #answer(question: Question, forced: boolean, options: CallOptions | undefined) {
    let ran = false;
    const run = async (): Promise<Stored> => {
      ran = true;
      return stored(await timed(question.query), question.ttlMs);
    };
    const plain = async () => ({ value: this.#own(question, await run()), ran });
    for (let attempt = 0; attempt < (forced ? REFRESHES : 1); attempt += 1) {
      try {
        if (forced) await this.#void(question.source, question.hash, options);
        const value = await this.#loader.run<unknown>(this.#protocol(question, run, options), options);
        if (ran || !forced) return { value, ran };
      } catch (error) {
        options?.signal?.throwIfAborted();
        if (ran || !isPassedBy(error, options)) throw error;
        return plain();
      }
    }
    // Somebody else's load was faster each time: it is as fresh, and stays; this one was asked to run all the same.
    return plain();
  }

  #protocol(
    question: Question,
    run: () => Promise<Stored>,
    options: CallOptions | undefined,
  ): Protocol<unknown> {
    const { source, hash, ttlMs, raw } = question;
    const budget = deadline(options) || LONGEST_MS;
    return {
      begin: (full) =>
        this.#native.beginResult(source, hash, ttlMs, full, raw, budget) as Promise<BeginReply>,
      found: (serial, written) => this.#objects.of(written === undefined ? serial : [serial, written]),
      bytes: (found) => found,
      load: run,
      encode: (loaded) => json(loaded),
      end: (lead, written) => this.#native.endLead(lead, written) as Promise<unknown>,
      decode: (written, serial) => (raw ? Buffer.from(written) : this.#objects.parse(serial, written)),
    };
  }

  /** A result that no cache has seen, in the form that it would have had. */
  #own({ raw }: Question, loaded: Stored): unknown {
    const written = json(loaded);
    return raw ? Buffer.from(written) : this.#objects.parse(0, written);
  }

  async invalidate(cacheKey: string, options: CallOptions | undefined): Promise<Public.InvalidationResult> {
    const [, source, hash] = CACHE_KEY.exec(text('cacheKey', cacheKey)) ?? [];
    if (source === undefined || hash === undefined) throw refused('cacheKey', KEY_EXPECTED);
    return this.#void(unescaped(source), hash, options);
  }

  async invalidateAll(
    dataSourceId: string | number,
    options: CallOptions | undefined,
  ): Promise<Public.InvalidationResult> {
    const whole = Number.isSafeInteger(dataSourceId);
    const source = whole ? String(dataSourceId) : text('dataSourceId', dataSourceId);
    return this.#void(source, '', options);
  }

  async #void(
    source: string,
    hash: string,
    options: CallOptions | undefined,
  ): Promise<Public.InvalidationResult> {
    const reply = this.#native.invalidateResult(
      source,
      hash,
      deadline(options),
    ) as Promise<InvalidationReply>;
    const [acknowledged, queued] = await abortable(reply, options?.signal);
    return { acknowledged, queued };
  }

  /** The same as a response that a browser may keep for itself and ask about again. */
  async respond(
    request: { readonly headers: { get(name: string): string | null } },
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: Query,
    options: Public.DataSourceResponseOptions | undefined,
  ): Promise<Response> {
    const { forceRefresh, ...rest } = options ?? {};
    const asked = { ...rest, raw: true } as const;
    const result = await this.query(params, userOrganizations, queryFunction, forceRefresh, asked);
    const { json: body, fromCache } = result as Public.RawDataSourceResult;
    const [, cachedAt = ''] = TIMES.exec(body.subarray(0, 120).toString('latin1')) ?? [];
    const at = Date.parse(cachedAt);
    const etag = `"${at.toString(36)}-${body.length.toString(36)}"`;
    const headers = {
      'content-type': 'application/json',
      'cache-control': 'private, max-age=0, must-revalidate',
      etag,
      age: String(Math.max(0, Math.floor((Date.now() - at) / 1_000))),
      'x-cache-status': fromCache ? 'HIT' : forceRefresh === true ? 'REFRESH' : 'MISS',
    };
    if (matches(request.headers.get('if-none-match'), etag))
      return new Response(null, { status: 304, headers });
    // A Buffer may be a view of a larger piece of memory; Response takes exactly what it shows.
    return new Response(new Uint8Array(body.buffer as ArrayBuffer, body.byteOffset, body.length), {
      headers,
    });
  }
}

function read(
  params: object,
  userOrganizations: readonly string[] | null | undefined,
  query: Query,
  options: Public.DataSourceOptions | undefined,
): Question {
  if (typeof query !== 'function') throw refused('queryFunction', 'a function is expected');
  const { dataSourceId, hash, endDate } = dataSourceKey(
    params,
    userOrganizations,
    scopeText(options?.scopeKey),
  );
  const seconds = lifetimeSeconds(endDate, Date.now(), options?.timeZone);
  const ttlMs = shortened(seconds * 1_000, Math.random());
  return { source: dataSourceId, hash, ttlMs, query, raw: options?.raw === true };
}

/** A scope in words: all of it, since a part would make two of them one. */
function scopeText(given: string | Public.Scope | undefined): string | undefined {
  if (!(given instanceof Scope)) return given as string | undefined;
  const { kind, practices, providers } = given;
  return JSON.stringify({ kind, practices, providers });
}

/** Runs the query and fills in how long it took when it does not say so itself. */
async function timed(query: Query): Promise<object> {
  const from = performance.now();
  const result: unknown = await query();
  if (typeof result !== 'object' || result === null || Array.isArray(result)) {
    throw refused('the result of queryFunction', 'an object with data is expected');
  }
  return { query_time_ms: Math.round(performance.now() - from), ...result };
}

function stored(result: object, ttlMs: number): Stored {
  const now = Date.now();
  const times = { cached_at: new Date(now).toISOString(), expires_at: new Date(now + ttlMs).toISOString() };
  return { ...times, ...result, ...times } as Stored;
}

function json(loaded: unknown): string {
  try {
    return JSON.stringify(loaded);
  } catch (cause) {
    const field = 'the result of queryFunction';
    throw new InvalidArgumentError(`${field} is not accepted: JSON cannot carry it`, { field, cause });
  }
}

export function isPassedBy(error: unknown, options: CallOptions | undefined): boolean {
  if (!(error instanceof BcosCacheError) || !PASSED_BY.has(error.code)) return false;
  return error.code !== 'E_DEADLINE' || options?.deadlineMs === undefined;
}

/** Whether the client has it already. Weak and strong tags are the same here. */
function matches(given: string | null, etag: string): boolean {
  if (given === null) return false;
  return given.split(',').some((one) => one.trim() === '*' || one.trim().replace(/^W\//, '') === etag);
}

/** As keys escape an id. */
function escaped(id: string): string {
  const hex = (sign: string) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`;
  return encodeURIComponent(id).replace(/[!'()*]/g, hex);
}

const KEY_EXPECTED = 'a key as queryDataSourceWithCache has returned it is expected';

function unescaped(id: string): string {
  try {
    return decodeURIComponent(id);
  } catch {
    throw refused('cacheKey', KEY_EXPECTED);
  }
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
