/**
 * Analytics of one engine: questions out, answers in, and what there is to do about a data source. Which rows somebody may
 * see, and what a question means, is decided in Rust.
 * Invariant: every method reports a bad argument by rejecting, never by throwing.
 */

import type * as Public from '../../index.js';
import { abortable, type CallOptions, deadline } from '../arguments.js';
import { scopeOf } from '../contexts.js';
import { InvalidArgumentError } from '../errors.js';
import type { NativeEngine } from '../native.js';
import { columnsOf } from './columns.js';
import { aggregateText, dataSourceId, filtersText } from './filters.js';
import { answersOf, factsOf, rowsOf } from './rows.js';
import { warm } from './warm.js';

type Filters = Public.CacheQueryFilters;
type Options = Public.AnalyticsOptions;

/** What an order says, as JSON. */
type Order = 'stats' | 'all_stats' | 'warm_since' | 'invalidate' | 'roll_back' | 'approve' | 'discard';

/** Of one batch: many times the charts of a dashboard. */
const QUESTIONS = 256;

export class Analytics {
  readonly #native: NativeEngine;

  constructor(native: NativeEngine) {
    this.#native = native;
  }

  async warmCache(id: number, options?: Public.WarmOptions): Promise<Public.WarmResult> {
    return warm(this.#native, dataSourceId(id), options);
  }

  async query(filters: Filters, options?: Options): Promise<Public.CacheEntry[]> {
    return rowsOf(await this.#ask([filtersText(filters)], false, options)) as Public.CacheEntry[];
  }

  async queryForContext(
    context: Public.UserContext,
    filters: Filters,
    options?: Public.AnalyticsContextOptions,
  ): Promise<Public.CacheEntry[]> {
    return this.query(within(context, filters, options), options);
  }

  async queryColumns(filters: Filters, options?: Options): Promise<Public.AnalyticsColumns> {
    return columnsOf(await this.#ask([filtersText(filters)], false, options));
  }

  async queryJson(filters: Filters, options?: Options): Promise<Buffer> {
    return this.#ask([filtersText(filters)], true, options);
  }

  async aggregate(question: Public.AggregateQuestion, options?: Options): Promise<Public.AggregateRow[]> {
    return rowsOf(await this.#ask([aggregateText(question)], false, options)) as Public.AggregateRow[];
  }

  async batchQuery(all: readonly Filters[], options?: Options): Promise<Public.CacheEntry[][]> {
    if (!Array.isArray(all) || all.length > QUESTIONS) {
      const message = `filters is not accepted: an array of at most ${QUESTIONS} filters is expected`;
      throw new InvalidArgumentError(message, { field: 'filters' });
    }
    if (all.length === 0) return [];
    const reply = await this.#ask(
      all.map((filters) => filtersText(filters)),
      false,
      options,
    );
    return answersOf(reply).map((answer) => rowsOf(answer) as Public.CacheEntry[]);
  }

  async fetch(filters: Filters, options?: Public.FetchOptions): Promise<Public.AnalyticsAnswer> {
    const reply = await this.#ask([filtersText(filters)], false, options);
    const { layer, generation, reason, micros } = factsOf(reply);
    return {
      rows: rowsOf(reply) as Public.CacheEntry[],
      cacheHit: layer !== 'source',
      layer,
      generation,
      queryTimeMs: micros / 1_000,
      ...(reason === null ? {} : { reason }),
    };
  }

  async isCacheWarm(id: number, options?: CallOptions): Promise<boolean> {
    return (await this.#order<{ isWarm: boolean }>('warm_since', id, options)).isWarm;
  }

  async getLastWarmedTime(id: number, options?: CallOptions): Promise<string | null> {
    return (await this.#order<{ lastWarmed: string | null }>('warm_since', id, options)).lastWarmed;
  }

  async getCacheStats(id: number, options?: CallOptions): Promise<Public.CacheStats> {
    return this.#order('stats', id, options);
  }

  async invalidate(id: number, options?: CallOptions): Promise<Public.AnalyticsInvalidation> {
    return this.#order('invalidate', id, options);
  }

  async rollback(id: number, options?: CallOptions): Promise<Public.AnalyticsPublication> {
    return this.#order('roll_back', id, options);
  }

  async approve(id: number, options?: CallOptions): Promise<Public.AnalyticsPublication> {
    return this.#order('approve', id, options);
  }

  async discard(id: number, options?: CallOptions): Promise<Public.AnalyticsDiscard> {
    return this.#order('discard', id, options);
  }

  /** Those of all active data sources. */
  async stats(options?: CallOptions): Promise<readonly NamedStats[]> {
    return this.#send<readonly NamedStats[]>('all_stats', 0, options);
  }

  /** `json` = the text of one answer; otherwise columns of all. */
  async #ask(questions: string[], json: boolean, options: Public.FetchOptions | undefined): Promise<Buffer> {
    const { numeric = 'number', fallback = 'source', signal } = options ?? {};
    if (numeric !== 'number' && numeric !== 'string') throw oneOf('numeric', "'number' or 'string'");
    if (fallback !== 'source' && fallback !== 'none') throw oneOf('fallback', "'source' or 'none'");
    signal?.throwIfAborted();
    const exact = numeric === 'string';
    const asked = this.#native.askAnalytics(questions, json, exact, fallback === 'source', deadline(options));
    return abortable(asked, signal);
  }

  async #order<T>(what: Order, id: number, options: CallOptions | undefined): Promise<T> {
    return this.#send(what, dataSourceId(id), options);
  }

  async #send<T>(what: Order, id: number, options: CallOptions | undefined): Promise<T> {
    options?.signal?.throwIfAborted();
    const told = this.#native.orderAnalytics(what, id, deadline(options));
    return JSON.parse(await abortable(told, options?.signal)) as T;
  }
}

export type NamedStats = Public.CacheStats & { readonly datasourceName: string };

/** The filters with the caller's scope. Another one beside it could only be a mistake: which of the two was meant? */
function within(
  context: Public.UserContext,
  filters: Filters,
  options: Public.AnalyticsContextOptions | undefined,
): Filters {
  if (typeof filters === 'object' && filters !== null && 'scope' in filters) {
    const message =
      'scope is not accepted: queryForContext takes the one of the context; call query with a scope of your own';
    throw new InvalidArgumentError(message, { field: 'scope' });
  }
  return { ...filters, scope: scopeOf(context, options?.permission) as unknown as Public.Scope };
}

function oneOf(field: string, expected: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${expected} is expected`, { field });
}
