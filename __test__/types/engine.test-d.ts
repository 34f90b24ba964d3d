/** Type tests for "Engine and lifecycle": options, health, metrics, logs. Compiled, never run. */

import type * as cache from 'bcos-cache';
import {
  type BreakerState,
  type CloseOptions,
  close,
  configure,
  createEngine,
  type Engine,
  type EngineHealth,
  type EngineOptions,
  getEngine,
  getHealth,
  getMetrics,
  isRedisAvailable,
  type LatencySummary,
  type LogLevel,
  type LogRecord,
  type MetricsSnapshot,
  metricsText,
  type NamespaceMetrics,
  type NearOptions,
  type SchemaMapping,
  setLogger,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

// Every module-level function is a method with the same signature, except those that concern engines themselves, or
// only a request or response of HTTP.
type Functions = {
  [Name in keyof typeof cache as (typeof cache)[Name] extends abstract new (
    ...args: never
  ) => unknown
    ? never
    : // A class that nobody may construct is not `new`.
      Exclude<
        Name,
        | 'createEngine'
        | 'configure'
        | 'getEngine'
        | 'Scope'
        | 'redisCacheService'
        | 'redisGet'
        | 'redisSet'
        | 'redisDel'
        | 'CACHE_KEYS'
        | 'CACHE_TTL'
        | 'getRateLimitKey'
        | 'addRateLimitHeaders'
        | 'rateLimitResponse'
        | 'calculateCacheHealth'
      >]: (typeof cache)[Name];
};
// The service is an object: it cannot be told from a function by its name, and is compared below.
type Methods = {
  [Name in Exclude<keyof Engine, typeof Symbol.asyncDispose | 'redisCacheService'>]: Engine[Name];
};
check<Same<keyof Functions, keyof Methods>>();
check<Same<Functions, Methods>>();
check<Same<typeof cache.redisCacheService, Engine['redisCacheService']>>();

// Lifecycle.
expectType<Engine>()(createEngine());
expectType<Engine>()(createEngine(undefined));
expectType<Engine>()(getEngine());
expectType<void>()(configure({ cacheStore: 'embedded' }));
expectType<Promise<void>>()(close());
expectType<Promise<void>>()(close({ drainMs: 500 }));
expectType<Promise<void>>()(close({ drainMs: undefined }));
check<Same<CloseOptions, { readonly drainMs?: number | undefined }>>();
export async function disposes(): Promise<boolean> {
  await using engine = createEngine({ cacheStore: 'none' });
  return engine.isTokenBlacklisted('jti');
}
// @ts-expect-error: options are required, a bare call would configure nothing
configure();
// @ts-expect-error: the unit is in the name
void close({ drain: 500 });

// Every option, with undefined allowed: an application passes what it may not have.
const absent = undefined as { host: string; port: number } | undefined;
createEngine({ redisHost: absent?.host, redisPort: absent?.port });
// Same is exact: a forgotten `| undefined`, a missing or an extra option fails here.
type OptionOf<Names extends string, Value> = { readonly [Name in Names]?: Value | undefined };
type Flatten<T> = { [Name in keyof T]: T[Name] };
type TextOptions =
  | 'redisHost'
  | 'redisUsername'
  | 'redisPassword'
  | 'redisTlsCa'
  | 'redisUrl'
  | 'redisKeyPrefix'
  | 'upstashRedisRestUrl'
  | 'upstashRedisRestToken'
  | 'databaseUrl'
  | 'analyticsDatabaseUrl'
  | 'nodeEnv';
type NumberOptions =
  | 'cacheDatasourceMaxBytes'
  | 'redisPort'
  | 'cacheTtl'
  | 'cacheBatchSize'
  | 'cacheQueryTimeout'
  | 'analyticsExportTimeout'
  | 'cacheDeadlineMs'
  | 'cacheConnectTimeoutMs'
  | 'cacheSourceDeadlineMs'
  | 'cacheFlightWaitMs'
  | 'cacheLeaseMs'
  | 'cacheNearBytes'
  | 'analyticsNearBytes'
  | 'cacheEmbeddedBytes'
  | 'cacheBulkhead'
  | 'cacheBulkheadQueue'
  | 'databasePoolMax'
  | 'cacheWorkerThreads'
  | 'cacheSpinUs'
  | 'rbacBoundedMs'
  | 'rbacSamplePerMillion'
  | 'cacheTailPollMs';
type SwitchOptions =
  | 'redisTls'
  | 'cacheMetricsEnabled'
  | 'enableCacheWarming'
  | 'databasePgbouncer'
  | 'cacheTailEnabled';
type ListOptions =
  | 'redisClusterNodes'
  | 'cacheSchemaAllow'
  | 'analyticsSchemas'
  | 'analyticsMeasureColumns'
  | 'jwtUserClaims'
  | 'rbacSuperAdminRoles'
  | 'rbacOrganizationAdminRoles';
type NearNamespace =
  | 'token_bl'
  | 'user_basic'
  | 'user_email'
  | 'jwt_payload'
  | 'user_context'
  | 'role_perms'
  | 'org_tree'
  | 'cache'
  | 'datasource';
type NamedLimits = {
  readonly [name: string]: {
    readonly limit: number;
    readonly windowSeconds: number;
    readonly onStoreFailure?: 'local' | 'open' | 'closed' | undefined;
  };
};
type Dashboard = {
  readonly view: string;
  readonly schema?: string | undefined;
  readonly key?: string | undefined;
  readonly ttl?: number | undefined;
  readonly lastRefreshedColumn?: string | undefined;
  readonly maxAgeSeconds?: number | undefined;
  readonly queries: { readonly [group: string]: string };
  readonly scopeColumn?: string | undefined;
  readonly refreshTimeoutMs?: number | undefined;
};
type NearByNamespace = { readonly [Name in NearNamespace]?: NearOptions | undefined };
check<
  Same<
    Flatten<EngineOptions>,
    Flatten<
      OptionOf<TextOptions, string> &
        OptionOf<NumberOptions, number> &
        OptionOf<SwitchOptions, boolean> &
        OptionOf<ListOptions, readonly string[]> &
        OptionOf<'cacheWarmingLevel', 'none' | 'minimal' | 'aggressive'> &
        OptionOf<'redisMode', 'auto' | 'standalone' | 'cluster'> &
        OptionOf<'cacheStore', 'valkey' | 'embedded' | 'none'> &
        OptionOf<'redisLog', LogLevel | 'off'> &
        OptionOf<'dashboard', Dashboard> &
        OptionOf<'near', NearByNamespace> &
        OptionOf<'rateLimits', NamedLimits> &
        OptionOf<'rateLimitTrustedProxies', number | string | readonly string[]> &
        OptionOf<'rateLimitOnStoreFailure', 'local' | 'open' | 'closed'> &
        OptionOf<'schema', SchemaMapping>
    >
  >
>();
check<Same<LogLevel, 'error' | 'warn' | 'info' | 'debug' | 'trace'>>();
createEngine({
  redisHost: 'cache.internal',
  redisPort: 6379,
  redisTls: true,
  redisMode: 'auto',
  redisClusterNodes: ['a:6379', 'b:6379'] as const,
  redisLog: 'warn',
  cacheStore: 'valkey',
  cacheSchemaAllow: ['public', 'ih'],
  jwtUserClaims: ['sub'],
  near: { token_bl: { mode: 'off' }, user_basic: { mode: 'bounded', maxAgeMs: 250 }, jwt_payload: undefined },
  schema: { users: { schema: 'auth', table: 'account', columns: { user_id: 'id', email: undefined } } },
});
// @ts-expect-error: a number, the text form belongs to the environment
createEngine({ redisPort: '6379' });
// @ts-expect-error: a boolean, the text form belongs to the environment
createEngine({ redisTls: 'true' });
// @ts-expect-error: options are camelCase, variables are not options
createEngine({ REDIS_HOST: 'cache.internal' });
// @ts-expect-error: unknown store
createEngine({ cacheStore: 'memory' });
// @ts-expect-error: unknown mode
createEngine({ redisMode: 'sentinel' });
// @ts-expect-error: unknown level
createEngine({ redisLog: 'verbose' });
// @ts-expect-error: maxAgeMs means nothing without `bounded`
createEngine({ near: { user_basic: { mode: 'validated', maxAgeMs: 250 } } });
// @ts-expect-error: a mode is required
createEngine({ near: { user_basic: { maxAgeMs: 250 } } });
// @ts-expect-error: no such namespace
createEngine({ near: { users: { mode: 'off' } } });
// @ts-expect-error: password_hash is never read, so it cannot be mapped
createEngine({ schema: { users: { columns: { password_hash: 'secret' } } } });
// @ts-expect-error: null is not "not set"
createEngine({ redisHost: null });

// State.
expectType<boolean>()(isRedisAvailable());
expectType<Promise<EngineHealth>>()(getHealth());
expectType<MetricsSnapshot>()(getMetrics());
expectType<string>()(metricsText());
// @ts-expect-error: a promise is no answer to "is it there"
if (getHealth()) close();

export function describeHealth(health: EngineHealth): string {
  expectType<'healthy' | 'degraded' | 'down'>()(health.status);
  expectType<string | null>()(health.reason);
  expectType<string>()(health.since);
  expectType<BreakerState>()(health.store.breaker);
  expectType<'closed' | 'open' | 'half-open'>()(health.store.breaker);
  expectType<'none' | 'embedded' | 'standalone' | 'cluster'>()(health.store.mode);
  expectType<'off' | 'healthy' | 'unhealthy'>()(health.store.subscription);
  expectType<'healthy' | 'degraded' | 'down' | 'not-configured'>()(health.source.status);
  expectType<'healthy' | 'degraded' | 'not-configured'>()(health.near.status);
  expectType<string | null>()(health.near.reason);
  expectType<string>()(health.near.since);
  expectType<string>()(health.limiter.since);
  expectType<number>()(health.near.capacityBytes);
  expectType<'off' | 'leading' | 'following' | 'alone'>()(health.tail.state);
  switch (health.status) {
    case 'healthy':
      return 'all tiers work';
    case 'degraded':
    case 'down':
      return health.reason ?? health.status;
    default:
      return health.status satisfies never;
  }
}

export function pretend(health: EngineHealth): void {
  // @ts-expect-error: a report is not a switch
  health.status = 'healthy';
}

export function hitRate(metrics: MetricsSnapshot): number {
  const users: NamespaceMetrics = metrics.namespaces.user_basic;
  expectType<LatencySummary>()(users.latency.store);
  expectType<number>()(users.latency.near.p99Us);
  expectType<number>()(metrics.logs.dropped);
  expectType<boolean>()(metrics.enabled);
  expectType<number>()(metrics.bridge.rejectedOverload);
  expectType<number>()(metrics.rbac.staleServed);
  expectType<number>()(metrics.tail.lagMs);
  expectType<'none' | 'embedded' | 'valkey'>()(metrics.store.kind);
  // A statement that never ran is absent.
  expectType<number | undefined>()(metrics.source.statementsByName.user_by_id);
  // @ts-expect-error: no such namespace
  void metrics.namespaces.sessions;
  // @ts-expect-error: counters are read-only
  metrics.store.commands = 0;
  check<
    Same<
      keyof MetricsSnapshot['namespaces'],
      | 'cache'
      | 'cache_gen'
      | 'token_bl'
      | 'user_basic'
      | 'jwt_payload'
      | 'jwt_user'
      | 'user_email'
      | 'user_context'
      | 'role_perms'
      | 'org_tree'
      | 'rbac_epoch'
      | 'tail'
      | 'ratelimit'
      | 'datasource'
      | 'datasource_gen'
      | 'warming'
    >
  >();
  return (users.near + users.store) / (users.near + users.store + users.source);
}

// Logs.
setLogger(null);
setLogger((record) => {
  expectType<LogRecord>()(record);
  expectType<LogLevel>()(record.level);
  expectType<string | number | boolean | undefined>()(record.fields.tokenId);
  console[record.level](`${record.time} ${record.component}: ${record.message}`);
});
// @ts-expect-error: null removes a logger, undefined is a forgotten argument
setLogger(undefined);
// @ts-expect-error: a logger receives one record, not level and text
setLogger((level: string, message: string) => console.log(level, message));
