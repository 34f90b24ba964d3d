/**
 * Results of data sources: who runs a query, and who gets what it brings. Not the query, which is the application's, and
 * not the decision whether a result is current, which is the native side's.
 * Invariant: a query runs at most once at a time per key and process, and as a rule over all processes; what it throws
 * reaches whoever waits for it and is never stored; its answer always arrives, whatever the cache does.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type * as Public from '../../index.js';
import { abortable, type CallOptions, check, deadline, remaining, text } from '../arguments.js';
import { BcosCacheError } from '../errors.js';
import type { Loader, Protocol } from '../loader.js';
import {
  type AgedReply,
  type BeginReply,
  type InvalidationReply,
  LEAD,
  type NativeEngine,
} from '../native.js';
import type { Objects } from '../objects.js';
import { MostUsed } from '../warming/most-used.js';
import { Told } from './aging.js';
import { json, type Query, type Question, readQuestion, refused, run, type Stored } from './question.js';
import { asResponse } from './response.js';

/** One call. */
interface Call {
  readonly question: Question;
  readonly options: CallOptions | undefined;
  /** When its time budget ends. */
  readonly until: number;
  readonly told: Told;
  /** Whether its query was run. */
  ran: boolean;
}

/** Before a query's end is told again that found no room: a full queue is empty in a quarter of a second. */
const PAUSES_MS = [20, 100, 500] as const;
/** How often a refresh begins anew because somebody else was faster. */
const REFRESHES = 3;
/** A query takes as long as it takes: whoever waits for one is not sent away before. */
const LONGEST_MS = 600_000;
const CACHE_KEY = /^datasource:([A-Za-z0-9%._~-]+):([A-Za-z0-9_-]{1,64})$/;
const PASSED_BY: ReadonlySet<string> = new Set<Public.ErrorCode>([
  'E_OVERLOADED',
  'E_DEADLINE',
  'E_STORE_UNAVAILABLE',
  'E_INTERNAL',
]);

/** The engine cannot answer; the query can. Never thrown to a caller. */
class PassedBy extends Error {
  constructor(
    /** What is stored cannot be read. */
    readonly unreadable: boolean,
    cause: unknown,
  ) {
    super('the cache is passed by', { cause });
  }
}

export class DataSources {
  readonly #native: NativeEngine;
  readonly #objects: Objects;
  readonly #loader: Loader;
  readonly #used = new MostUsed();

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
    const question = readQuestion(params, userOrganizations, queryFunction, options);
    if (forceRefresh !== undefined && typeof forceRefresh !== 'boolean') {
      throw refused('forceRefresh', 'true or false is expected');
    }
    if (options !== undefined) check(options);
    this.#used.count(question.source);
    const until = performance.now() + deadline(options);
    const call: Call = { question, options, until, told: new Told(), ran: false };
    const value = await this.#answer(call, forceRefresh === true);
    const { source, hash, aging } = question;
    const more = {
      fromCache: !call.ran,
      cacheKey: `datasource:${escaped(source)}:${hash}`,
      // A query may have a property of that name: without the option a result is what it always was.
      ...(aging.staleMs > 0 ? { stale: !call.ran && call.told.stale } : {}),
    };
    return Buffer.isBuffer(value) ? { json: value, ...more } : { ...(value as Stored), ...more };
  }

  /** As `query`, for a caller who wants it to be there and not to have it: no use of the data source. */
  async warm(
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: Query,
    options: Public.DataSourceOptions,
  ): Promise<void> {
    const question = readQuestion(params, userOrganizations, queryFunction, options);
    check(options);
    const until = performance.now() + deadline(options);
    await this.#answer({ question, options, until, told: new Told(), ran: false }, false);
  }

  /** Ids of data sources, the most used first. */
  mostUsed(): readonly string[] {
    return this.#used.list();
  }

  async #answer(call: Call, forced: boolean): Promise<unknown> {
    const { question, options } = call;
    const protocol = this.#protocol(call);
    for (let attempt = 0; attempt < (forced ? REFRESHES : 1); attempt += 1) {
      try {
        if (forced) await this.#voided(call);
        const value = await this.#ask(call, protocol);
        if (!call.ran && !forced) this.#refresh(call);
        if (call.ran || !forced) return value;
      } catch (error) {
        options?.signal?.throwIfAborted();
        if (!(error instanceof PassedBy)) throw error;
        // The next one shall not meet it.
        if (error.unreadable) this.#void(question.source, question.hash, undefined).catch(() => undefined);
        break;
      }
    }
    // The cache cannot be asked. Or somebody else's load was faster each time: it is as fresh, and stays; this one was
    // asked to run all the same.
    return this.#ask(call, { ...protocol, begin: async () => [LEAD, 0] });
  }

  #ask(call: Call, protocol: Protocol<unknown>): Promise<unknown> {
    return this.#loader.run(protocol, remaining(call.options, call.until));
  }

  #protocol(call: Call): Protocol<unknown> {
    const { source, hash, ttlMs, raw, aging } = call.question;
    return {
      begin: async (full) => {
        const budget = deadline(remaining(call.options, call.until)) || LONGEST_MS;
        const { staleMs, beta } = aging;
        const begun = this.#native.beginResult(source, hash, ttlMs, staleMs, beta, full, raw, budget);
        return call.told.read(await (begun as Promise<BeginReply | AgedReply>).catch(passing(call)));
      },
      found: (serial, written) => {
        try {
          return this.#objects.of(written === undefined ? serial : [serial, written]);
        } catch (cause) {
          throw new PassedBy(true, cause);
        }
      },
      bytes: (found) => found,
      load: () => {
        call.ran = true;
        return run(call.question);
      },
      encode: json,
      end: (lead, written) => this.#end(lead, written, () => isGone(call)),
      decode: (written, serial) => (raw ? Buffer.from(written) : this.#objects.parse(serial, written)),
    };
  }

  /**
   * Runs the query once more for later callers, if this call was told to: in its async context, and nobody waits for
   * it. What it throws is counted on the native side and reaches nobody.
   */
  #refresh({ question, options, told: { version } }: Call): void {
    const isCut = () => options?.signal?.aborted === true;
    if (version === null || isCut()) return;
    const { source, hash, ttlMs, aging } = question;
    const again = async () => {
      const begun = this.#native.beginRefresh(source, hash, ttlMs, aging.staleMs, aging.beta, version);
      const [, lead] = ((await begun) as readonly [number, number] | null) ?? [];
      if (lead === undefined) return;
      let written: string | null = null;
      try {
        written = json(await run(question));
      } finally {
        await this.#end(lead, written, isCut);
      }
    };
    again().catch(() => undefined);
  }

  /**
   * Tells the native side how a query has ended. Its caller gets the answer whatever comes of that, and those who wait
   * for it are not left waiting because there was no room for a moment. A query whose caller is gone may have been cut
   * short with it: nobody gets what it brings.
   */
  async #end(lead: number, written: string | null, isCut: () => boolean): Promise<unknown> {
    const cut = isCut();
    for (const pauseMs of [0, ...PAUSES_MS]) {
      if (pauseMs > 0) await sleep(pauseMs, undefined, { ref: false });
      try {
        return await (cut ? this.#native.dropLead(lead) : this.#native.endLead(lead, written));
      } catch (error) {
        if (!(error instanceof BcosCacheError) || error.code !== 'E_OVERLOADED') break;
      }
    }
    return 0;
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

  /** Before a refresh: whoever asks meanwhile waits for it. */
  async #voided(call: Call): Promise<void> {
    const { source, hash } = call.question;
    await this.#void(source, hash, remaining(call.options, call.until)).catch(passing(call));
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
    return asResponse(request, result as Public.RawDataSourceResult, forceRefresh === true);
  }
}

/** Turns what the engine itself failed with into a reason to do without it. */
function passing({ options }: Call): (error: unknown) => never {
  return (error) => {
    const code = error instanceof BcosCacheError ? error.code : '';
    const mine = code === 'E_DEADLINE' && options?.deadlineMs !== undefined;
    if (mine || !PASSED_BY.has(code)) throw error;
    throw new PassedBy(code === 'E_INTERNAL', error);
  };
}

/** Whether the engine could not answer, which is a reason to do without it. */
export function isPassedBy(error: unknown, options: CallOptions | undefined): boolean {
  if (!(error instanceof BcosCacheError) || !PASSED_BY.has(error.code)) return false;
  return error.code !== 'E_DEADLINE' || options?.deadlineMs === undefined;
}

/** Whether nobody waits for this call any more. */
function isGone({ options, until }: Call): boolean {
  if (options?.signal?.aborted === true) return true;
  return options?.deadlineMs !== undefined && performance.now() >= until;
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
