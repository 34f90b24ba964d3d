/**
 * The dashboard that the option `dashboard` describes: a layered cache of its view and its queries, and how both are.
 * The SQL and its limits are the native side's.
 * Invariant: without that option every function rejects and says which option is missing.
 */

import type * as Public from '../../index.js';
import { type CallOptions, text } from '../arguments.js';
import { BcosCacheError, ConfigError, SourceUnavailableError } from '../errors.js';
import { judge, type ViewFacts } from './health.js';
import { Layered, type Parts } from './layered.js';

/** As the native side tells it. */
interface Settings {
  readonly view: string;
  readonly key: string;
  readonly ttlMs: number;
  readonly maxAgeSeconds: number;
  readonly scoped: boolean;
  readonly refreshTimeoutMs: number;
}

interface Ready {
  readonly settings: Settings;
  readonly cache: Layered;
}

/** The native side has limits of its own, which the configuration sets. */
const LAYER_MS = 600_000;
/** For a connection, and for the database to say that the time is over. */
const AROUND_REFRESH_MS = 10_000;
/** A health check must not hang with what it checks. */
const HEALTH_MS = 2_000;

export class Dashboard {
  readonly #parts: Parts;
  readonly #values: Public.RedisCacheService;
  #made: Ready | undefined;

  constructor(parts: Parts, values: Public.RedisCacheService) {
    this.#parts = parts;
    this.#values = values;
  }

  async metrics(useCache: boolean, options: Public.DashboardOptions | undefined): Promise<object> {
    return this.#ready().cache.get({ ...scoped(options), useCache });
  }

  async refresh(options: CallOptions | undefined): Promise<Public.RefreshResult> {
    return this.#ready().cache.refresh(options);
  }

  async warmUp(options: Public.DashboardOptions | undefined): Promise<Public.WarmUpResult> {
    return this.#ready().cache.warmUp(scoped(options));
  }

  async invalidate(options: Public.DashboardOptions | undefined): Promise<Public.InvalidationResult> {
    const { cache } = this.#ready();
    return cache.invalidate(scoped(options)?.scopeKey, options);
  }

  async health(): Promise<Public.CacheHealth> {
    const { view: name, maxAgeSeconds } = this.#ready().settings;
    const [store, facts] = await Promise.all([this.#values.info(), this.#view()]);
    return judge(store, { name, facts, maxAgeSeconds }, new Date());
  }

  async #view(): Promise<ViewFacts> {
    try {
      return JSON.parse((await this.#parts.native.dashboardHealth(HEALTH_MS)) as string) as ViewFacts;
    } catch (error) {
      if (!(error instanceof BcosCacheError) || error.code === 'E_CLOSED') throw error;
      return { error: error.message };
    }
  }

  #ready(): Ready {
    this.#made ??= this.#make();
    return this.#made;
  }

  #make(): Ready {
    const { native } = this.#parts;
    const told = native.dashboard();
    if (told === null) {
      const message =
        'no dashboard is configured: set the option dashboard, { view, queries: { [group]: sql } }';
      throw new ConfigError(message, { field: 'dashboard' });
    }
    const settings = JSON.parse(told) as Settings;
    const { key, ttlMs, scoped, refreshTimeoutMs, view } = settings;
    const layers = [
      layer('materialized_view', (scope) => native.dashboardView(scope, 0), view),
      layer('database', (scope) => native.dashboardQueries(scope, 0), view),
    ];
    const refresh = () => native.refreshDashboard(refreshTimeoutMs + AROUND_REFRESH_MS) as Promise<unknown>;
    const definition = { key, ttl: ttlMs / 1_000, layers, scoped, refresh };
    return { settings, cache: new Layered(definition, () => this.#parts) };
  }
}

function layer(
  name: string,
  ask: (scope: string | null) => Promise<unknown>,
  view: string,
): Public.CacheLayer<object> {
  const load = async ({ scopeKey, setLastUpdated }: Public.LayerRequest): Promise<object | null> => {
    const told = (await ask((scopeKey as string | undefined) ?? null)) as string | null;
    if (told === null) return null;
    const { metrics, lastUpdated } = JSON.parse(told) as { metrics: object; lastUpdated: string | null };
    if (lastUpdated === null) {
      throw new SourceUnavailableError(`nobody can tell how old ${view} is: lastRefreshedColumn is empty`);
    }
    setLastUpdated(lastUpdated);
    return metrics;
  };
  return { name, load, timeoutMs: LAYER_MS };
}

/** A scope key is text here: it becomes a parameter of the statements. */
function scoped(options: Public.DashboardOptions | undefined): Public.DashboardOptions | undefined {
  const given: unknown = options?.scopeKey;
  if (given !== undefined && given !== null) text('scopeKey', given);
  return options;
}
