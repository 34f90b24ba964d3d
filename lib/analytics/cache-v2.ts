/**
 * The class that applications know from before, over the analytics of an engine. No logic of its own.
 * Invariant: making one makes no engine; an engine that cannot be made is a rejection of the call that needs it.
 */

import type * as Public from '../../index.js';
import { getEngine } from '../engines.js';
import { InvalidArgumentError } from '../errors.js';
import type { Analytics } from './service.js';

export class AnalyticsCacheV2 implements Public.AnalyticsCacheV2 {
  readonly #given: { readonly analytics: Analytics } | undefined;

  constructor(engine?: Public.Engine) {
    const given: unknown = engine;
    if (given !== undefined && !hasAnalytics(given)) {
      const message =
        'engine is not accepted: an engine made by createEngine() is expected, or none for the default one';
      throw new InvalidArgumentError(message, { field: 'engine' });
    }
    this.#given = given;
  }

  async warmCache(id: number, options?: Public.WarmOptions) {
    return this.#of().warmCache(id, options);
  }

  async warmCacheConcurrent(id: number, options?: Public.WarmOptions) {
    return this.#of().warmCache(id, options);
  }

  async query(filters: Public.CacheQueryFilters, options?: Public.AnalyticsOptions) {
    return this.#of().query(filters, options);
  }

  async queryForContext(
    context: Public.UserContext,
    filters: Public.CacheQueryFilters,
    options?: Public.AnalyticsContextOptions,
  ) {
    return this.#of().queryForContext(context, filters, options);
  }

  async queryColumns(filters: Public.CacheQueryFilters, options?: Public.AnalyticsOptions) {
    return this.#of().queryColumns(filters, options);
  }

  async queryJson(filters: Public.CacheQueryFilters, options?: Public.AnalyticsOptions) {
    return this.#of().queryJson(filters, options);
  }

  async aggregate(question: Public.AggregateQuestion, options?: Public.AnalyticsOptions) {
    return this.#of().aggregate(question, options);
  }

  async batchQuery(filters: readonly Public.CacheQueryFilters[], options?: Public.AnalyticsOptions) {
    return this.#of().batchQuery(filters, options);
  }

  async fetch(filters: Public.CacheQueryFilters, options?: Public.FetchOptions) {
    return this.#of().fetch(filters, options);
  }

  async isCacheWarm(id: number, options?: Public.CallOptions) {
    return this.#of().isCacheWarm(id, options);
  }

  async getLastWarmedTime(id: number, options?: Public.CallOptions) {
    return this.#of().getLastWarmedTime(id, options);
  }

  async getCacheStats(id: number, options?: Public.CallOptions) {
    return this.#of().getCacheStats(id, options);
  }

  async invalidate(id: number, options?: Public.CallOptions) {
    return this.#of().invalidate(id, options);
  }

  async rollback(id: number, options?: Public.CallOptions) {
    return this.#of().rollback(id, options);
  }

  async approve(id: number, options?: Public.CallOptions) {
    return this.#of().approve(id, options);
  }

  async discard(id: number, options?: Public.CallOptions) {
    return this.#of().discard(id, options);
  }

  #of(): Analytics {
    return (this.#given ?? getEngine()).analytics;
  }
}

function hasAnalytics(engine: unknown): engine is { readonly analytics: Analytics } {
  return typeof engine === 'object' && engine !== null && 'analytics' in engine;
}
