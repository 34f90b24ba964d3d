/**
 * bcos-cache: the public surface. Start here.
 *
 * In a proxy or middleware, one call answers who this is and whether they may come in:
 *
 * ```ts
 * // proxy.ts (Next.js 16), or middleware.ts with `runtime: 'nodejs'` (15.5)
 * import { authorizeRequest } from 'bcos-cache';
 *
 * export async function proxy(request: NextRequest) {
 *   const result = await authorizeRequest({
 *     token: request.cookies.get('session')?.value, // no cookie: `token_missing`
 *     verify: (text) => verifyWithMyKey(text), // yours; runs only while the payload is not cached
 *   });
 *   if (result.ok) return NextResponse.next();
 *   const headers = result.retryAfterMs ? { 'retry-after': String(result.retryAfterMs / 1000) } : undefined;
 *   return new Response(result.message, { status: result.status, headers }); // 401, 403 or 503
 * }
 * ```
 *
 * In a route handler, what the caller may do and which rows they may see:
 *
 * ```ts
 * import { authorizeRequest, hasPermission, scopeOf, withRequestSnapshot } from 'bcos-cache';
 *
 * export const GET = (request: Request) =>
 *   withRequestSnapshot(async () => {
 *     const result = await authorizeRequest({ token: bearerOf(request), verify, permission: 'analytics:read:own' });
 *     if (!result.ok) return new Response(result.message, { status: result.status });
 *     const rows = await measuresWithin(scopeOf(result.context)); // yours; see Scope for what it has to do
 *     return Response.json({ rows, mayExport: hasPermission(result.context, 'analytics:export:organization') });
 *   });
 * ```
 *
 * After a change, once it is committed: `await invalidateUserContext(userId, 'role_removed')`. When that resolves
 * as `acknowledged`, no process lets the user in with the old role any more.
 *
 * Words used below:
 * - *source*: Postgres, the truth.
 * - *store*: the cache all processes share (Valkey, or an embedded one inside this process).
 * - *near cache*: the part of the cache inside this process.
 * - *namespace*: one family of entries, for example `token_bl`.
 * - *breaker*: while the store does not answer, the breaker is open and calls go straight to the source.
 * - *context*: one user with roles, permissions, organizations and practices, see {@link UserContext}.
 * - *scope*: which rows of analytics data a context may see, see {@link Scope}.
 *
 * Rules that hold for every function:
 * - **Importing does nothing**: no connection, no timer, no thread. The first call that needs one opens it.
 * - **The truth or an error.** A function that promises an answer gives the right one or rejects with a
 *   {@link BcosCacheError}. It never turns a failure into "allowed", `false`, `null` or `undefined`.
 * - **The store may be missing, down, slow or full.** Answers then come from the source; only speed is lost.
 *   What only the cache can tell (`getCached...`) is then `null`, "unknown".
 * - **Invalidations win.** Once an invalidation resolved as `acknowledged`, no process that shares the store
 *   gives the old answer any more, including one that was loading it meanwhile. The exceptions are opt-in or
 *   stated: `bounded` as a near-cache mode or as the {@link Consistency} of a call, a request inside
 *   {@link withRequestSnapshot}, and an invalidation that could only be `queued`.
 * - **Objects handed out are frozen** and may be shared between callers. Copy before changing.
 * - **Units** are in the names: `Ms` milliseconds, `Us` microseconds, `Bytes`. A `ttl` is in seconds.
 *   Dates are ISO-8601 text, from the cache and from the source alike.
 * - **Everywhere**: `E_INVALID_ARGUMENT` for an argument of the wrong type or size, `E_DEADLINE` when the
 *   time budget ran out, `E_OVERLOADED` when a bounded queue is full, `E_CLOSED` after {@link close}.
 *   Functions list only what they add. Asynchronous functions reject, they do not throw.
 *
 * The end of a description names where its promise comes from: S1 to S5 are the five design documents of the
 * application, in their order; "here" marks what this package adds.
 *
 * `import` and `require` both work. Node.js >= 20.19, TypeScript >= 5.2.
 */

/// <reference lib="esnext.disposable" />

// -----------------------------------------------------------------------------------------------------------
// Calls
// -----------------------------------------------------------------------------------------------------------

/** Options every asynchronous function takes as its last argument. */
export interface CallOptions {
  /**
   * Stops waiting: the promise rejects with `signal.reason`. Work shared with other callers goes on for them,
   * and an invalidation that was already submitted still takes effect.
   */
  readonly signal?: AbortSignal | undefined;
  /**
   * Time budget of the whole call in milliseconds, a positive integer; when it runs out the promise rejects
   * with `E_DEADLINE`. Omitted: the limits of each tier apply (`cacheDeadlineMs`, `cacheSourceDeadlineMs`).
   */
  readonly deadlineMs?: number | undefined;
}

/** How far an invalidation got when its promise resolved. */
export interface InvalidationResult {
  /**
   * `true`: in effect. No process sharing the store gives the old answer any more.
   * With no store configured nothing outlives a running call, so this is `true` at once.
   */
  readonly acknowledged: boolean;
  /**
   * `true`: the store could not be reached. This process already refuses the old answer, and applies the
   * invalidation before it trusts the store again. Until then other processes that still reach the store may
   * give the old answer for at most the namespace's TTL; if this process ends first, that TTL is the bound
   * too.
   */
  readonly queued: boolean;
}

// -----------------------------------------------------------------------------------------------------------
// Errors
// -----------------------------------------------------------------------------------------------------------

/**
 * Stable codes; switch on these rather than on messages.
 *
 * | code | meaning | what to do |
 * | --- | --- | --- |
 * | `E_CONFIG` | a variable or option has a bad value; the message names it and what is accepted | fix it |
 * | `E_INVALID_ARGUMENT` | an argument has the wrong type, size or form | fix the call |
 * | `E_SOURCE_UNAVAILABLE` | only the source could answer, and it is down, slow or not configured | answer 503 |
 * | `E_STORE_UNAVAILABLE` | only the store could do this, and it cannot be reached | answer 503 or retry |
 * | `E_DEADLINE` | the time budget of the call ran out | answer 503 or retry |
 * | `E_OVERLOADED` | a bounded queue was full; nothing was started | shed load, retry later |
 * | `E_SCOPE` | the caller's scope does not allow this | answer 403 |
 * | `E_NOT_FOUND` | it does not exist, or is deactivated or deleted | answer 404 or 401 |
 * | `E_CONFLICT` | contradicts the present state, for example `configure` after first use | fix the order |
 * | `E_RATE_LIMITED` | a rate limit refused the call | answer 429 |
 * | `E_CLOSED` | the engine is closed or closing | do not call it any more |
 * | `E_INTERNAL` | a defect in this package, contained | report it |
 */
export type ErrorCode =
  | 'E_CONFIG'
  | 'E_INVALID_ARGUMENT'
  | 'E_SOURCE_UNAVAILABLE'
  | 'E_STORE_UNAVAILABLE'
  | 'E_DEADLINE'
  | 'E_OVERLOADED'
  | 'E_SCOPE'
  | 'E_NOT_FOUND'
  | 'E_CONFLICT'
  | 'E_RATE_LIMITED'
  | 'E_CLOSED'
  | 'E_INTERNAL';

/** What a {@link BcosCacheError} knows besides its message. */
export interface ErrorDetails {
  readonly field?: string | undefined;
  readonly reason?: string | undefined;
  /** Omitted: what is usual for the code. */
  readonly retryable?: boolean | undefined;
  readonly cause?: unknown;
}

/**
 * Base of every error this package makes. Errors thrown by your own callbacks and the reason of an aborted
 * signal are passed through as they are. `instanceof` also holds when a bundler has loaded the package twice.
 */
export class BcosCacheError extends Error {
  constructor(code: ErrorCode, message: string, details?: ErrorDetails | undefined);
  readonly code: ErrorCode;
  /** The offending argument, option or environment variable, where there is one. */
  readonly field?: string | undefined;
  /**
   * Which of several causes, where a code has several, as a word to switch on. `E_NOT_FOUND` of
   * {@link getCachedUserContext}: `unknown`, `inactive` or `deleted`.
   */
  readonly reason?: string | undefined;
  /** `true`: the same call, unchanged, may succeed later. */
  readonly retryable: boolean;
}
/** `E_CONFIG`; `field` is the option or environment variable. */
export class ConfigError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_CONFIG';
}
/** `E_INVALID_ARGUMENT`; `field` is the argument. */
export class InvalidArgumentError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_INVALID_ARGUMENT';
}
/** `E_SOURCE_UNAVAILABLE`. */
export class SourceUnavailableError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_SOURCE_UNAVAILABLE';
}
/** `E_STORE_UNAVAILABLE`. */
export class StoreUnavailableError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_STORE_UNAVAILABLE';
}
/** `E_DEADLINE`. */
export class DeadlineError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_DEADLINE';
}
/** `E_OVERLOADED`. */
export class OverloadedError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_OVERLOADED';
}
/** `E_SCOPE`: also for something that is no context of this package, see {@link scopeOf}. */
export class ScopeError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_SCOPE';
}
/** `E_NOT_FOUND`; `reason` says why it counts as not existing. */
export class NotFoundError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_NOT_FOUND';
}
/** `E_CONFLICT`. */
export class ConflictError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_CONFLICT';
}
/** `E_RATE_LIMITED`. */
export class RateLimitedError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_RATE_LIMITED';
}
/** `E_CLOSED`. */
export class ClosedError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_CLOSED';
}

// -----------------------------------------------------------------------------------------------------------
// Options
// -----------------------------------------------------------------------------------------------------------

/** Severity, most severe first. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug' | 'trace';

/**
 * How the near cache of one namespace may answer.
 * - `validated` (default): the value is kept in this process and its version is checked with the store on
 *   every read. Never older than the last acknowledged invalidation; an unchanged object is not parsed again.
 * - `bounded`: served without a round trip for at most `maxAgeMs`. An invalidation elsewhere is pushed, but
 *   may arrive up to `maxAgeMs` late. Not used while the subscription is unhealthy.
 * - `off`: every read asks the store.
 */
export type NearOptions =
  | { readonly mode: 'validated' | 'off'; readonly maxAgeMs?: undefined }
  | { readonly mode: 'bounded'; readonly maxAgeMs: number };

/**
 * Where one table of the application lives and what its columns are called. Omitted parts keep their usual
 * names.
 */
export interface TableMapping<Column extends string> {
  /** Must be in `cacheSchemaAllow`. */
  readonly schema?: string | undefined;
  readonly table?: string | undefined;
  readonly columns?: { readonly [Name in Column]?: string | undefined } | undefined;
}

/**
 * Maps the tables this package reads and writes to yours. Identifiers must match `^[A-Za-z_][A-Za-z0-9_]*$`;
 * they are quoted, so their case counts.
 */
export interface SchemaMapping {
  readonly token_blacklist?:
    | TableMapping<
        | 'jti'
        | 'user_id'
        | 'token_type'
        | 'blacklisted_at'
        | 'expires_at'
        | 'reason'
        | 'blacklisted_by'
        | 'ip_address'
        | 'user_agent'
      >
    | undefined;
  readonly users?:
    | TableMapping<
        | 'user_id'
        | 'email'
        | 'first_name'
        | 'last_name'
        | 'is_active'
        | 'email_verified'
        | 'provider_uid'
        | 'created_at'
        | 'updated_at'
        | 'deleted_at'
      >
    | undefined;
  readonly organizations?:
    | TableMapping<
        | 'organization_id'
        | 'name'
        | 'slug'
        | 'parent_organization_id'
        | 'practice_uids'
        | 'is_active'
        | 'created_at'
        | 'updated_at'
        | 'deleted_at'
      >
    | undefined;
  readonly roles?:
    | TableMapping<
        | 'role_id'
        | 'name'
        | 'description'
        | 'organization_id'
        | 'is_system_role'
        | 'is_active'
        | 'created_at'
        | 'updated_at'
        | 'deleted_at'
      >
    | undefined;
  readonly permissions?:
    | TableMapping<
        | 'permission_id'
        | 'name'
        | 'description'
        | 'resource'
        | 'action'
        | 'scope'
        | 'is_active'
        | 'created_at'
        | 'updated_at'
      >
    | undefined;
  readonly role_permissions?: TableMapping<'role_permission_id' | 'role_id' | 'permission_id'> | undefined;
  readonly user_roles?:
    | TableMapping<
        | 'user_role_id'
        | 'user_id'
        | 'role_id'
        | 'organization_id'
        | 'granted_by'
        | 'granted_at'
        | 'expires_at'
        | 'is_active'
      >
    | undefined;
  readonly user_organizations?:
    | TableMapping<'user_organization_id' | 'user_id' | 'organization_id' | 'is_active' | 'joined_at'>
    | undefined;
}

/**
 * Every option is an environment variable in camelCase: `redisHost` is `REDIS_HOST`. The option wins over the
 * variable. A value that is not accepted is an `E_CONFIG` that names it. The README's configuration reference
 * lists every variable with its default and its accepted values.
 */
export interface EngineOptions {
  // Store: where it is
  /** `REDIS_HOST`. Host name or address of Valkey or Redis; setting it selects the `valkey` store. (S3) */
  readonly redisHost?: string | undefined;
  /** `REDIS_PORT`, default 6379. (S3) */
  readonly redisPort?: number | undefined;
  /** `REDIS_USERNAME`. ACL user. (S3) */
  readonly redisUsername?: string | undefined;
  /** `REDIS_PASSWORD`. Never logged. (S3) */
  readonly redisPassword?: string | undefined;
  /** `REDIS_TLS`, default `false`. (S3) */
  readonly redisTls?: boolean | undefined;
  /** `REDIS_TLS_CA`. Certificate authority to trust instead of the built-in roots. */
  readonly redisTlsCa?: string | undefined;
  /** `REDIS_URL`. `redis://` or `rediss://` with everything in one text. Never logged. */
  readonly redisUrl?: string | undefined;
  /**
   * `REDIS_MODE`, default `auto`: looks at the server and takes the cluster client only where several nodes
   * share the slots (ElastiCache Serverless does not need it).
   */
  readonly redisMode?: 'auto' | 'standalone' | 'cluster' | undefined;
  /** `REDIS_KEY_PREFIX`. Put before every key. All processes that share a cache must use the same one. */
  readonly redisKeyPrefix?: string | undefined;
  /** `REDIS_CLUSTER_NODES`. Seed nodes as `host:port`. */
  readonly redisClusterNodes?: readonly string[] | undefined;
  /** `REDIS_LOG`. Least severe level that reaches {@link setLogger}; of several engines the last one made sets it. */
  readonly redisLog?: LogLevel | 'off' | undefined;
  /**
   * `CACHE_STORE`. `valkey`: shared by all processes. `embedded`: inside this process, so revocations do not
   * reach other processes; for one process, demos and tests. `none`: every read goes to the source. Omitted:
   * `valkey` when an address is configured, otherwise `none`.
   */
  readonly cacheStore?: 'valkey' | 'embedded' | 'none' | undefined;
  /**
   * `UPSTASH_REDIS_REST_URL`. Its host is used over a `rediss://` connection; the other options override it.
   * (S5)
   */
  readonly upstashRedisRestUrl?: string | undefined;
  /** `UPSTASH_REDIS_REST_TOKEN`. Used as the password. Never logged. (S5) */
  readonly upstashRedisRestToken?: string | undefined;

  // Source
  /** `DATABASE_URL`. Application database, `postgres://`. Never logged. */
  readonly databaseUrl?: string | undefined;
  /** `ANALYTICS_DATABASE_URL`. Default: `databaseUrl`. Never logged. */
  readonly analyticsDatabaseUrl?: string | undefined;
  /**
   * `DATABASE_POOL_MAX`, default 8. Connections per process for everything but analytics tables; questions about those may
   * use half as many beside them, and an export one.
   */
  readonly databasePoolMax?: number | undefined;
  /**
   * `DATABASE_PGBOUNCER`. `true` behind a transaction-mode pooler: no prepared statement is kept on a
   * connection.
   */
  readonly databasePgbouncer?: boolean | undefined;
  /** `CACHE_SCHEMA_ALLOW`, default `ih` and `public`. Database schemas whose tables may be used. */
  readonly cacheSchemaAllow?: readonly string[] | undefined;
  /** Tables and columns of an application whose names differ. Has no environment variable. */
  readonly schema?: SchemaMapping | undefined;

  // Results of data sources
  /** `CACHE_DATASOURCE_MAX_BYTES`, default 8388608. Larger results, in bytes of JSON, are returned and not stored. */
  readonly cacheDatasourceMaxBytes?: number | undefined;

  // Dashboard
  /** The dashboard of {@link getDashboardMetrics}. Has no environment variable. (S5) */
  readonly dashboard?:
    | {
        /** A materialized view of one row, or of one row per scope. It has a column for each group of `queries`. */
        readonly view: string;
        /** Default `public`. Must be in `cacheSchemaAllow`. */
        readonly schema?: string | undefined;
        /** Of the entry in the cache, as {@link redisCacheService} knows it. Default `dashboard:metrics:v3`. */
        readonly key?: string | undefined;
        /** Seconds, default 60. */
        readonly ttl?: number | undefined;
        /** The column that says when the view was refreshed, default `last_refreshed`. Not one of the metrics. */
        readonly lastRefreshedColumn?: string | undefined;
        /** Default 600. A view that is older is not healthy; it is answered all the same. */
        readonly maxAgeSeconds?: number | undefined;
        /**
         * For each group of the metrics, at most 50, a query of one row: what answers when the view cannot. They run
         * as parts of one statement, in one snapshot, and only read: it may be sent twice. A group is named as its column of the view, and neither
         * `performance` nor `degraded` nor `degradedReason`.
         */
        readonly queries: { readonly [group: string]: string };
        /**
         * The column of the view that says whose row it is, for a dashboard that is not the same for everybody. Every
         * call then needs a `scopeKey`, which is compared with the column as text, and every query must use it as `$1`,
         * which is text as well.
         */
        readonly scopeColumn?: string | undefined;
        /** 100 to 540000, default 60000. Longest refresh of the view, waiting for its turn included. */
        readonly refreshTimeoutMs?: number | undefined;
      }
    | undefined;

  // Analytics and warming
  /** `CACHE_TTL`, seconds, default 86400. How long a warmed data source is served: longer than the pause between two warms. (S2) */
  readonly cacheTtl?: number | undefined;
  /** `CACHE_BATCH_SIZE`, rows, default 5000. Read and checked because applications set it; a warm streams, so it changes nothing. (S2) */
  readonly cacheBatchSize?: number | undefined;
  /** `CACHE_QUERY_TIMEOUT`, milliseconds, default 10000. Budget of one analytics query. (S2) */
  readonly cacheQueryTimeout?: number | undefined;
  /** `ANALYTICS_NEAR_BYTES`, default 134217728 (128 MiB). Frames and manifests of warmed data sources in this process; 0 keeps none. */
  readonly analyticsNearBytes?: number | undefined;
  /**
   * `ANALYTICS_SCHEMAS`, default: those of `cacheSchemaAllow`. Database schemas that tables of `chart_data_sources` may
   * lie in. A data source never names a table of the application itself, such as `users`.
   */
  readonly analyticsSchemas?: readonly string[] | undefined;
  /** `ANALYTICS_MEASURE_COLUMNS`, default `measure`. The first of these columns that a table has says what is measured. */
  readonly analyticsMeasureColumns?: readonly string[] | undefined;
  /** `ANALYTICS_EXPORT_TIMEOUT`, milliseconds, default 600000. Longest export of a data source by a warm. */
  readonly analyticsExportTimeout?: number | undefined;
  /**
   * `CACHE_METRICS_ENABLED`. `false`: answers per tier and their latencies are not kept; in {@link getMetrics} they stay
   * 0, in {@link metricsText} they are absent. Everything else is counted all the same. (S2)
   */
  readonly cacheMetricsEnabled?: boolean | undefined;
  /**
   * `ENABLE_CACHE_WARMING`, default `false`. The default engine ({@link getEngine}) begins a {@link warmCache} in the
   * background when it is first used, except during `next build`. Engines of {@link createEngine} never do. (S1)
   */
  readonly enableCacheWarming?: boolean | undefined;
  /** `CACHE_WARMING_LEVEL`, default `minimal`. What is warmed when nobody says otherwise. (S1) */
  readonly cacheWarmingLevel?: WarmupLevel | undefined;

  // Time limits
  /** `CACHE_DEADLINE_MS`, default 50. Longest wait for one store command before the source is asked. */
  readonly cacheDeadlineMs?: number | undefined;
  /**
   * `CACHE_CONNECT_TIMEOUT_MS`. Longest attempt to connect to the store. Attempts never end, calls do not
   * wait.
   */
  readonly cacheConnectTimeoutMs?: number | undefined;
  /** `CACHE_SOURCE_DEADLINE_MS`. Longest load from the source, waiting for its turn included. */
  readonly cacheSourceDeadlineMs?: number | undefined;
  /** `CACHE_FLIGHT_WAIT_MS`. Longest wait for a load another process has begun, before loading here. */
  readonly cacheFlightWaitMs?: number | undefined;
  /**
   * `CACHE_LEASE_MS`, default 10000. How long one process holds the right to fill an entry. While the query of a data
   * source runs it is renewed, for a minute at most.
   */
  readonly cacheLeaseMs?: number | undefined;

  // Sizes
  /** `CACHE_NEAR_BYTES`. Memory budget of the near cache. */
  readonly cacheNearBytes?: number | undefined;
  /** `CACHE_EMBEDDED_BYTES`. Memory budget of the embedded store. */
  readonly cacheEmbeddedBytes?: number | undefined;
  /** `CACHE_BULKHEAD`. Most loads from the source at the same time, per process: what protects Postgres. */
  readonly cacheBulkhead?: number | undefined;
  /** `CACHE_BULKHEAD_QUEUE`. Most loads waiting for a turn; beyond it `E_OVERLOADED`. */
  readonly cacheBulkheadQueue?: number | undefined;
  /**
   * `CACHE_WORKER_THREADS`. Native worker threads. All engines of a process share them: the first engine decides, another
   * number later is ignored and logged as a warning.
   */
  readonly cacheWorkerThreads?: number | undefined;
  /**
   * `CACHE_SPIN_US`, microseconds. A worker looks for more work this long before it sleeps: trades CPU for
   * latency.
   */
  readonly cacheSpinUs?: number | undefined;

  // Behaviour
  /** Near-cache mode per namespace. `token_bl` keeps only revoked ids near, whatever the mode. */
  readonly near?:
    | {
        readonly token_bl?: NearOptions | undefined;
        readonly user_basic?: NearOptions | undefined;
        readonly user_email?: NearOptions | undefined;
        readonly jwt_payload?: NearOptions | undefined;
        /** `bounded` takes the place of `validated` as {@link Consistency}. */
        readonly user_context?: NearOptions | undefined;
        readonly role_perms?: NearOptions | undefined;
        readonly org_tree?: NearOptions | undefined;
        readonly cache?: NearOptions | undefined;
        readonly datasource?: NearOptions | undefined;
      }
    | undefined;
  /**
   * `JWT_USER_CLAIMS`. Claims that may hold the user id of a token, tried in order. {@link
   * invalidateAllUserTokens} reaches a cached payload through them, so a payload that has none of them is not
   * cached.
   */
  readonly jwtUserClaims?: readonly string[] | undefined;

  // Roles and organizations
  /**
   * `RBAC_SUPER_ADMIN_ROLES`, default `super_admin`. Names of system roles without an organization that make a
   * super administrator: allowed everything, sees every row.
   */
  readonly rbacSuperAdminRoles?: readonly string[] | undefined;
  /**
   * `RBAC_ORGANIZATION_ADMIN_ROLES`, default `practice_admin,organization_admin`. Names of system roles that,
   * assigned in an organization, put it into `organization_admin_for`.
   */
  readonly rbacOrganizationAdminRoles?: readonly string[] | undefined;
  /**
   * `RBAC_BOUNDED_MS`, 1 to 60000, default 1000. How old a context may be that is asked for with consistency
   * `bounded`.
   */
  readonly rbacBoundedMs?: number | undefined;
  /**
   * `RBAC_SAMPLE_PER_MILLION`, 0 to 1000000. How many of a million served contexts are compared with the source
   * afterwards, see {@link RbacMetrics}. Omitted: 1000 in production, otherwise 0.
   */
  readonly rbacSamplePerMillion?: number | undefined;
  /** `NODE_ENV`. What counts as production above. */
  readonly nodeEnv?: string | undefined;

  // Rate limits
  /**
   * Named limits for {@link applyRateLimit} and {@link checkRateLimits}, beside the usual ones, which it may change.
   * Has no environment variable.
   */
  readonly rateLimits?:
    | {
        readonly [name: string]: {
          /** 1 to 1,000,000,000. */
          readonly limit: number;
          /** 0.001 to 2,147,483. */
          readonly windowSeconds: number;
          /** Default: `rateLimitOnStoreFailure`. */
          readonly onStoreFailure?: OnStoreFailure | undefined;
        };
      }
    | undefined;
  /**
   * `RATE_LIMIT_TRUSTED_PROXIES`. How many proxies stand in front of the application, 0 to 16, or which: addresses
   * and CIDR blocks. See {@link getRateLimitKey}.
   */
  readonly rateLimitTrustedProxies?: number | string | readonly string[] | undefined;
  /** `RATE_LIMIT_ON_STORE_FAILURE`, default `local`. */
  readonly rateLimitOnStoreFailure?: OnStoreFailure | undefined;

  // Writes by anybody
  /**
   * `CACHE_TAIL_ENABLED`, default `false`. Follows the outbox that `npx bcos-cache migrate --apply` installs, so
   * that a committed write by anybody, also a plain `UPDATE`, voids what it changes within a second.
   */
  readonly cacheTailEnabled?: boolean | undefined;
  /** `CACHE_TAIL_POLL_MS`, 20 to 10000, default 200. How often the outbox is read when nobody gives notice. */
  readonly cacheTailPollMs?: number | undefined;
}

// -----------------------------------------------------------------------------------------------------------
// Engine and lifecycle
// -----------------------------------------------------------------------------------------------------------

/**
 * Makes an engine of its own: own connections, near cache and counters. Connects on first use. *Synchronous.*
 *
 * Most applications need none and use the module-level functions, which share the default engine ({@link
 * getEngine}). Tests use several to play several processes.
 *
 * @throws {ConfigError} `E_CONFIG` when an option or a variable is not accepted. (here)
 */
export function createEngine(options?: EngineOptions | undefined): Engine;

/**
 * Sets the options of the default engine. *Synchronous.* Call it once at start-up; it does not connect.
 *
 * @throws {ConflictError} `E_CONFLICT` once the default engine has been used: its connections would not
 * follow.
 * @throws {ConfigError} `E_CONFIG` when an option is not accepted. (here)
 */
export function configure(options: EngineOptions): void;

/**
 * The default engine, made from {@link configure} or the environment when it does not exist yet.
 * *Synchronous.* There is one per process, also after a hot reload and when a bundler has copied this module.
 *
 * @throws {ConfigError} `E_CONFIG` when an option or a variable is not accepted. (here)
 */
export function getEngine(): Engine;

/**
 * Whether the store takes part at this moment, from the breaker's state. *Synchronous*, asks nobody. `false`
 * also when no store is configured. Never needed before a call: every function deals with both cases. (S1)
 */
export function isRedisAvailable(): boolean;

/** State of the tiers. Asks the database for nothing (`SELECT 1`) to see whether it answers. (S1, S4) */
export function getHealth(): Promise<EngineHealth>;

/** Counters since the engine was made. *Synchronous.* Every figure was counted or measured. (S2, here) */
export function getMetrics(): MetricsSnapshot;

/**
 * {@link getMetrics} as Prometheus exposition text (format 0.0.4), ready for a `/metrics` route.
 * *Synchronous.* (here)
 */
export function metricsText(): string;

/**
 * Receives log records; `null` goes back to silence. *Synchronous.* Records are delivered later, in order, on
 * the thread that called this; when the logger is too slow they are dropped and counted (`logs.dropped`). An
 * error the logger throws is ignored. (here)
 */
export function setLogger(logger: Logger | null): void;

/**
 * Closes the default engine: refuses new calls with `E_CLOSED`, lets running ones finish, closes the
 * connections. Idempotent; all callers get the same end. A process that never calls it still exits by itself.
 * (here)
 *
 * @param options.drainMs longest wait for running calls, in milliseconds, default 5000; what is left then rejects
 * with `E_CLOSED`.
 */
export function close(options?: CloseOptions | undefined): Promise<void>;

export interface CloseOptions {
  readonly drainMs?: number | undefined;
}

/** One configured instance. Its methods are the functions of this module with the same names and promises. */
export interface Engine {
  /** See {@link isRedisAvailable}. */
  isRedisAvailable(): boolean;
  /** See {@link getHealth}. */
  getHealth(): Promise<EngineHealth>;
  /** See {@link getMetrics}. */
  getMetrics(): MetricsSnapshot;
  /** See {@link metricsText}. */
  metricsText(): string;
  /** See {@link setLogger}. */
  setLogger(logger: Logger | null): void;
  /** See {@link close}. */
  close(options?: CloseOptions | undefined): Promise<void>;
  /** {@link close} with its defaults, for `await using engine = createEngine()`. */
  [Symbol.asyncDispose](): Promise<void>;

  /** See {@link isTokenBlacklisted}. */
  isTokenBlacklisted(tokenId: string, options?: CallOptions | undefined): Promise<boolean>;
  /** See {@link getCachedTokenBlacklistStatus}. */
  getCachedTokenBlacklistStatus(tokenId: string, options?: CallOptions | undefined): Promise<boolean | null>;
  /** See {@link cacheTokenBlacklistStatus}. */
  cacheTokenBlacklistStatus(
    tokenId: string,
    blacklisted: boolean,
    options?: CallOptions | undefined,
  ): Promise<boolean>;
  /** See {@link invalidateTokenCache}. */
  invalidateTokenCache(tokenId: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
  /** See {@link blacklistToken}. */
  blacklistToken(revocation: TokenRevocation, options?: CallOptions | undefined): Promise<BlacklistResult>;
  /** See {@link invalidateAllUserTokens}. */
  invalidateAllUserTokens(userId: string, options?: CallOptions | undefined): Promise<InvalidationResult>;

  /** See {@link getUserById}. */
  getUserById(userId: string, options?: CallOptions | undefined): Promise<User | null>;
  /** See {@link getUserByEmail}. */
  getUserByEmail(email: string, options?: CallOptions | undefined): Promise<User | null>;
  /** See {@link invalidateUserCache}. */
  invalidateUserCache(
    userId: string,
    options?: InvalidateUserOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link getCachedUserBasic}. */
  getCachedUserBasic(userId: string, options?: CallOptions | undefined): Promise<User | null>;
  /** See {@link cacheUserBasic}. */
  cacheUserBasic(userId: string, user: UserInput, options?: CallOptions | undefined): Promise<boolean>;

  /** See {@link getCachedJWTPayload}. */
  getCachedJWTPayload<T extends object = JWTPayload>(
    token: string,
    options?: CallOptions | undefined,
  ): Promise<Readonly<T> | null>;
  /** See {@link cacheJWTPayload}. */
  cacheJWTPayload(token: string, payload: object, options?: CallOptions | undefined): Promise<boolean>;
  /** See {@link invalidateJWTPayload}. */
  invalidateJWTPayload(tokenId: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
  /** See {@link verifyTokenCached}. */
  verifyTokenCached<T extends object = JWTPayload>(
    token: string,
    verify: (token: string) => T | Promise<T>,
    options?: CallOptions | undefined,
  ): Promise<Readonly<T>>;

  /** See {@link getCachedUserContext}. */
  getCachedUserContext(userId: string, options?: ContextOptions | undefined): Promise<UserContext>;
  /** See {@link getCachedRolePermissions}. */
  getCachedRolePermissions(roleId: string, options?: CallOptions | undefined): Promise<Role | null>;
  /** See {@link hasPermission}. */
  hasPermission(context: UserContext, permission: string): boolean;
  /** See {@link scopeOf}. */
  scopeOf(context: UserContext, permission?: string | undefined): Scope;
  /** See {@link withRequestSnapshot}. */
  withRequestSnapshot<T>(fn: () => T | PromiseLike<T>): Promise<T>;
  /** See {@link redisCacheService}. */
  readonly redisCacheService: RedisCacheService;
  /** See {@link invalidateUserContext}. */
  invalidateUserContext(
    userId: string,
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link invalidateUsersWithRole}. */
  invalidateUsersWithRole(
    roleId: string,
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link invalidateOrganizationMembers}. */
  invalidateOrganizationMembers(
    organizationId: string,
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link invalidateOrganizationHierarchy}. */
  invalidateOrganizationHierarchy(
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link invalidateRolePermissions}. */
  invalidateRolePermissions(
    roleId: string,
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link invalidateAllRolePermissions}. */
  invalidateAllRolePermissions(
    reason?: string | undefined,
    options?: InvalidateOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link queryDataSourceWithCache}. */
  queryDataSourceWithCache<R extends DataSourceQueryResult>(
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: () => Promise<R>,
    forceRefresh: boolean | undefined,
    options: DataSourceOptions & { readonly raw: true },
  ): Promise<RawDataSourceResult>;
  queryDataSourceWithCache<R extends DataSourceQueryResult>(
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: () => Promise<R>,
    forceRefresh?: boolean | undefined,
    options?: DataSourceOptions | undefined,
  ): Promise<DataSourceResult<R>>;
  /** See {@link queryAsResponse}. */
  queryAsResponse(
    request: { readonly headers: { get(name: string): string | null } },
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: () => Promise<DataSourceQueryResult>,
    options?: DataSourceResponseOptions | undefined,
  ): Promise<Response>;
  /** See {@link invalidateDataSourceCache}. */
  invalidateDataSourceCache(cacheKey: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
  /** See {@link invalidateDataSourceCaches}. */
  invalidateDataSourceCaches(
    dataSourceId: string | number,
    options?: CallOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link warmCache}. */
  warmCache(options?: WarmupOptions | undefined): Promise<WarmupStats>;
  /** See {@link recordCacheFallback}. */
  recordCacheFallback(operation: string, reason: string): void;

  /** See {@link getAnalyticsCacheStats}. */
  getAnalyticsCacheStats(options?: CallOptions | undefined): Promise<AnalyticsCacheStats>;
  /** See {@link getAnalyticsCacheHealth}. */
  getAnalyticsCacheHealth(options?: CallOptions | undefined): Promise<AnalyticsCacheHealth>;
  /** See {@link checkRateLimit}. */
  checkRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link checkIpRateLimit}. */
  checkIpRateLimit(
    ip: string,
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link checkUserRateLimit}. */
  checkUserRateLimit(
    userId: string,
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link checkEndpointRateLimit}. */
  checkEndpointRateLimit(
    endpoint: string,
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link checkGlobalRateLimit}. */
  checkGlobalRateLimit(
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link checkRateLimits}. */
  checkRateLimits(
    limits: readonly RateLimitCheck[],
    options?: CallOptions | undefined,
  ): Promise<CombinedRateLimitResult>;
  /** See {@link peekRateLimit}. */
  peekRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    options?: RateLimitOptions | undefined,
  ): Promise<RateLimitResult>;
  /** See {@link resetRateLimit}. */
  resetRateLimit(
    type: string,
    identifier: string,
    options?: CallOptions | undefined,
  ): Promise<InvalidationResult>;
  /** See {@link blockRateLimit}. */
  blockRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    blockSeconds: number,
    options?: CallOptions | undefined,
  ): Promise<void>;
  /** See {@link rewardRateLimit}. */
  rewardRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    cost: number,
    options?: CallOptions | undefined,
  ): Promise<void>;
  /** See {@link applyRateLimit}. */
  applyRateLimit(
    request: RateLimitRequest,
    type?: string | undefined,
    options?: ApplyRateLimitOptions | undefined,
  ): Promise<AppliedRateLimit>;

  /** See {@link createLayeredCache}. */
  createLayeredCache<T extends object>(
    definition: LayeredDefinition<T> & { readonly placeholder: Placeholder<T> },
  ): LayeredCache<T, Layered<T> | Degraded<T>>;
  createLayeredCache<T extends object>(definition: LayeredDefinition<T>): LayeredCache<T>;
  /** See {@link getDashboardMetrics}. */
  getDashboardMetrics<T extends object = DashboardMetrics>(
    useCache?: boolean | undefined,
    options?: DashboardOptions | undefined,
  ): Promise<Layered<T>>;
  /** See {@link refreshDashboardMetrics}. */
  refreshDashboardMetrics(options?: CallOptions | undefined): Promise<RefreshResult>;
  /** See {@link warmUpDashboardCache}. */
  warmUpDashboardCache(options?: DashboardOptions | undefined): Promise<WarmUpResult>;
  /** See {@link getCacheHealth}. */
  getCacheHealth(): Promise<CacheHealth>;
  /** See {@link invalidateDashboardCache}. */
  invalidateDashboardCache(options?: DashboardOptions | undefined): Promise<InvalidationResult>;

  /** See {@link authorizeRequest}. */
  authorizeRequest<T extends object = JWTPayload>(
    request: AuthorizeRequest<T>,
    options?: CallOptions | undefined,
  ): Promise<AuthorizeResult<T>>;
}

// -----------------------------------------------------------------------------------------------------------
// Health, metrics, logs
// -----------------------------------------------------------------------------------------------------------

/** State of the breaker: `closed` uses the store, `open` passes it by, `half-open` is trying it again. */
export type BreakerState = 'closed' | 'open' | 'half-open';

/** What {@link getHealth} resolves to. */
export interface EngineHealth {
  /**
   * `healthy`: all configured tiers work. `degraded`: answers are right, but slower or with less protection.
   * `down`: what is not cached cannot be answered.
   */
  readonly status: 'healthy' | 'degraded' | 'down';
  /** The cause in one sentence; `null` when healthy. Holds no personal data and no secret. */
  readonly reason: string | null;
  /** ISO-8601: when this status began. */
  readonly since: string;
  readonly store: StoreHealth;
  readonly source: SourceHealth;
  readonly near: NearHealth;
  readonly tail: TailHealth;
  readonly limiter: LimiterHealth;
  readonly fallback: FallbackHealth;
  readonly warming: WarmingHealth;
}

/**
 * How many reads had to go past the store because it could not be asked: the present minute and the nine before. More
 * than 10 % of at least 100 reads make the engine `degraded`, also for a while after the store is back. (S1)
 */
export interface FallbackHealth {
  readonly status: 'healthy' | 'degraded';
  readonly reason: string | null;
  /** ISO-8601: since when there are too many; `null` when there are not. */
  readonly since: string | null;
  /** Of this engine, and those that {@link recordCacheFallback} has added. */
  readonly reads: number;
  /** Of those, past the store. */
  readonly fallbacks: number;
  /** `fallbacks / reads`; `null` without a read. */
  readonly share: number | null;
}

/** What {@link warmCache} does on this engine. */
export interface WarmingHealth {
  readonly state: 'idle' | 'running';
  /** Of the one that runs; `null` while none does, or it has not begun. */
  readonly stage: WarmupStage | null;
  readonly done: number;
  readonly total: number;
  /** The last one that ended on this engine, with when; `null` before the first. */
  readonly last: (WarmupStats & { readonly level: WarmupLevel; readonly endedAt: string }) | null;
}

/** Whether rate limits are those of all processes. */
export interface LimiterHealth {
  /** `degraded`: every process enforces its share. Never `down`: without a store every process decides by itself. */
  readonly status: 'healthy' | 'degraded';
  readonly reason: string | null;
  /** ISO-8601: when this status began. */
  readonly since: string;
  /**
   * Processes, more precisely engines, that are known to share the limits, this one included; while the store is
   * away those of the moment before.
   */
  readonly instances: number;
}

export interface StoreHealth {
  /**
   * `degraded`: in service, but within the last ten seconds it refused writes (out of memory, read-only) or a command
   * (a missing right).
   */
  readonly status: 'healthy' | 'degraded' | 'down' | 'not-configured';
  readonly kind: 'none' | 'embedded' | 'valkey';
  /** What was found at the other end, not what was asked for. */
  readonly mode: 'none' | 'embedded' | 'standalone' | 'cluster';
  readonly breaker: BreakerState;
  readonly reason: string | null;
  /** ISO-8601: when this status began. */
  readonly since: string;
  /** Invalidations waiting for the store to return. */
  readonly pendingInvalidations: number;
  /** The channel that carries invalidations and tells who is there; `off` without a store. */
  readonly subscription: 'off' | 'healthy' | 'unhealthy';
}

/** The databases, asked just now. */
export interface SourceHealth {
  /** `degraded`: the application's answers, the one of `ANALYTICS_DATABASE_URL` does not. */
  readonly status: 'healthy' | 'degraded' | 'down' | 'not-configured';
  readonly reason: string | null;
  /** ISO-8601: when this status began. */
  readonly since: string;
}

/**
 * How this process hears of writes by anybody: `off` not at all, `leading` it reads the outbox for all,
 * `following` another process does, `alone` it reads it for itself because the store is away.
 */
export type TailState = 'off' | 'leading' | 'following' | 'alone';

/** Whether writes by anybody are heard of, see `cacheTailEnabled`. */
export interface TailHealth {
  readonly state: TailState;
  /** Age in milliseconds of the oldest change that was applied last. */
  readonly lagMs: number;
}

/** Whether copies in this process are used as configured. */
export interface NearHealth extends NearUsage {
  /**
   * `degraded`: copies are not served, because the store that would confirm them does not answer; or, where a namespace
   * is `bounded`, they are confirmed on every read, because announcements of other processes do not arrive. Never
   * `down`: every read has another way. `not-configured`: no store, or no memory for copies.
   */
  readonly status: 'healthy' | 'degraded' | 'not-configured';
  readonly reason: string | null;
  /** ISO-8601: when this status began. */
  readonly since: string;
}

/** Size of the near cache now. */
export interface NearUsage {
  readonly entries: number;
  readonly bytes: number;
  readonly capacityBytes: number;
}

/** Namespaces that have counters. */
export type Namespace =
  | 'ratelimit'
  | 'datasource'
  | 'datasource_gen'
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
  | 'warming';

/** What {@link getMetrics} returns. Counters start at 0 with the engine and only grow; gauges are marked. */
export interface MetricsSnapshot {
  /**
   * `cacheMetricsEnabled`. While `false`, `near`, `store`, `source`, `negative` and `latency` of every namespace are 0
   * because they are not kept, not because nothing was answered.
   */
  readonly enabled: boolean;
  readonly uptimeMs: number;
  readonly store: StoreMetrics;
  readonly source: SourceMetrics;
  /** Gauges. */
  readonly near: NearUsage;
  readonly namespaces: Readonly<Record<Namespace, NamespaceMetrics>>;
  readonly rbac: RbacMetrics;
  readonly tail: TailMetrics;
  readonly limiter: LimiterMetrics;
  readonly dataSources: DataSourceMetrics;
  readonly fallback: FallbackMetrics;
  readonly bridge: BridgeMetrics;
  readonly logs: {
    /** Records lost because the logger was too slow. */
    readonly dropped: number;
  };
}

/** Results of data sources, beside `namespaces.datasource`. */
export interface DataSourceMetrics {
  /** Returned and not stored: larger than `cacheDatasourceMaxBytes`. */
  readonly tooLarge: number;
  /** Answered past their time, to callers with `staleMs`. */
  readonly stale: number;
  /** Queries run again in the background, for `staleMs` and `earlyRefresh`. */
  readonly refreshes: number;
  /** Of those, the ones that rejected. */
  readonly refreshesFailed: number;
  /** Of those, the ones whose result was not stored: voided meanwhile, cut short, or not within a minute. */
  readonly refreshesRefused: number;
  /** Gauge: running now, at most 16. */
  readonly refreshing: number;
}

export interface StoreMetrics {
  readonly kind: 'none' | 'embedded' | 'valkey';
  /** Gauge. */
  readonly connected: boolean;
  /** Gauge. */
  readonly breaker: BreakerState;
  /** Pipelines sent and answered; many calls share one. */
  readonly roundTrips: number;
  /** Commands inside them. */
  readonly commands: number;
  /** Timeouts included. */
  readonly errors: number;
  readonly timeouts: number;
  /** Times the breaker opened. */
  readonly breakerOpened: number;
  /** Cluster redirections followed. */
  readonly redirects: number;
  /** Gauge: invalidations waiting for the store to return. */
  readonly pendingInvalidations: number;
}

export interface SourceMetrics {
  /** SQL statements sent, all names together. */
  readonly statements: number;
  /** Timeouts included. */
  readonly errors: number;
  readonly timeouts: number;
  /** Gauge: running now. */
  readonly inFlight: number;
  /** Gauge: waiting for a turn. */
  readonly queued: number;
  /** The same count, by the name of the statement. A statement that never ran may be absent. */
  readonly statementsByName: Readonly<Record<string, number>>;
}

/** Where the answers of one namespace came from. */
export interface NamespaceMetrics {
  /** Answered by the near cache, validated reads included. */
  readonly near: number;
  /** Answered by the store. */
  readonly store: number;
  /** Answered by the source. */
  readonly source: number;
  /** Of all answers, those that said "there is none". */
  readonly negative: number;
  /** Loads begun. */
  readonly loads: number;
  /** Calls that waited for somebody else's load instead of beginning one. */
  readonly waits: number;
  /** Entries replaced before they expired: a loader that did not finish, an outdated or unreadable entry. */
  readonly takeovers: number;
  /** Loaded values stored. */
  readonly fills: number;
  /**
   * Loaded values not stored because an invalidation came between: each is a stale entry that did not happen.
   */
  readonly fillsRefused: number;
  readonly invalidations: number;
  /** Entries that could not be decoded and were treated as absent. */
  readonly corrupt: number;
  /** Calls that rejected. */
  readonly errors: number;
  /** By the tier that answered. */
  readonly latency: {
    readonly near: LatencySummary;
    readonly store: LatencySummary;
    readonly source: LatencySummary;
  };
}

/** Microseconds, from a histogram. All are 0 while `count` is 0: read them together. */
export interface LatencySummary {
  readonly count: number;
  readonly p50Us: number;
  readonly p90Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
}

/** How contexts were made, and whether they were right. */
export interface RbacMetrics {
  /** Contexts put together from their parts. */
  readonly composed: number;
  /** Contexts whose parts had not changed: handed out as they were. */
  readonly reused: number;
  /** Contexts served from the cache, near or not, that were compared with the source, see `rbacSamplePerMillion`. */
  readonly sampled: number;
  /**
   * Of those, how many were out of date and, asked for in the same way, still were two seconds later. Should stay 0:
   * alert on it (`bcos_authz_stale_served_total`). More means that somebody writes to the tables without invalidating.
   */
  readonly staleServed: number;
  /** Comparisons that could not be made. */
  readonly sampleErrors: number;
}

/** The outbox of writes by anybody, see `cacheTailEnabled`. */
export interface TailMetrics {
  /** Gauge. */
  readonly state: TailState;
  /** Rows turned into invalidations. */
  readonly events: number;
  /** Reads of the outbox. */
  readonly polls: number;
  /** Reads that a notification of the database brought about. */
  readonly wakeups: number;
  readonly errors: number;
  /** Gauge: age of the oldest change that was applied last, in milliseconds. */
  readonly lagMs: number;
}

/** Rate limits. The namespace `ratelimit` has the latencies; `near` there is "without a command". */
export interface LimiterMetrics {
  readonly admitted: number;
  readonly denied: number;
  /** Of those, denied without a command, because the store had said until when. */
  readonly deniedNear: number;
  /** Decided without the store. */
  readonly degraded: number;
  /** Evaluated together with another check of the same limit. */
  readonly joined: number;
  /** Charges given back because another limit of the same check denied. */
  readonly refunded: number;
  /** Limits the store was told about after it had been away. */
  readonly merged: number;
  /** Gauge: limits remembered for the time without a store. */
  readonly keys: number;
  /** Gauge: denials remembered. */
  readonly denials: number;
  /** Limits that were forgotten for want of room before the store was told. */
  readonly forgotten: number;
}

/** Reads that went past the store because it could not be asked. An ordinary miss is none. */
export interface FallbackMetrics {
  /**
   * Since the engine was made (`bcos_cache_fallback_total`). Of the engine's own reads `operation` is the namespace and
   * `reason` is `unavailable` (out of service), `failed` (the command failed or was late) or `pending` (an
   * invalidation that the store has not acknowledged); {@link recordCacheFallback} adds others.
   */
  readonly counts: readonly {
    readonly operation: string;
    readonly reason: string;
    readonly count: number;
  }[];
  /** Gauge: reads of the last ten minutes, as in {@link FallbackHealth}. */
  readonly reads: number;
  /** Gauge: of those, past the store. */
  readonly fallbacks: number;
  /** Gauge: `fallbacks / reads`; `null` without a read. */
  readonly share: number | null;
}

/** Crossings between JavaScript and the native threads. */
export interface BridgeMetrics {
  /** Calls handed to the native side, and the contexts that a warm-up asks for. Near hits never are. */
  readonly submitted: number;
  /** Calls answered by it; `submitted - settled` are running. */
  readonly settled: number;
  /** Batches made of them; calls in one batch shared a round trip. */
  readonly batches: number;
  /** Calls refused with `E_OVERLOADED` before they were handed over. */
  readonly rejectedOverload: number;
}

/**
 * One log record. Token ids are cut to 8 characters, IP addresses are redacted; e-mail addresses, token texts
 * and passwords never appear.
 */
export interface LogRecord {
  readonly level: LogLevel;
  readonly message: string;
  /** Part of the package that speaks, for example `store`. */
  readonly component: string;
  readonly fields: Readonly<Record<string, string | number | boolean>>;
  /** ISO-8601: when it happened, not when it was delivered. */
  readonly time: string;
}

/** Receives log records, see {@link setLogger}. */
export type Logger = (record: LogRecord) => void;

// -----------------------------------------------------------------------------------------------------------
// Tokens
// -----------------------------------------------------------------------------------------------------------

/**
 * Whether a token was revoked. Drop-in for the query on `token_blacklist`; any row for the `jti` counts,
 * whatever its `expires_at` says.
 *
 * Entry `token_bl:{jti}`: "revoked" lives 3600 s, "not revoked" 60 s. Only "revoked" is kept in the near
 * cache, so a "no" is always the store's or the source's. Without the store the source answers.
 *
 * @param tokenId the token's `jti`, 1 to 255 characters.
 * @returns `true` revoked, `false` not revoked. Never a guess: if neither store nor source can tell, it
 * rejects.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE`: treat the request as not authenticated. (S1, S3)
 */
export function isTokenBlacklisted(tokenId: string, options?: CallOptions | undefined): Promise<boolean>;

/**
 * What the cache knows about a token, without asking the source.
 *
 * @returns `true` revoked, `false` known as not revoked, `null` unknown: not cached, or the store cannot be
 * asked. `null` does not mean "not revoked"; {@link isTokenBlacklisted} finds out. (S1)
 */
export function getCachedTokenBlacklistStatus(
  tokenId: string,
  options?: CallOptions | undefined,
): Promise<boolean | null>;

/**
 * Stores a status. `true` marks the token as revoked, like {@link invalidateTokenCache}. `false` never replaces
 * `true`, and since you may have looked before a revocation you do not know of, the source is asked again and
 * decides what is stored: {@link isTokenBlacklisted} does the same in one call.
 *
 * @returns whether this status is stored now; always `false` without a database or without the store. (S1)
 */
export function cacheTokenBlacklistStatus(
  tokenId: string,
  blacklisted: boolean,
  options?: CallOptions | undefined,
): Promise<boolean>;

/**
 * Marks a token as revoked for every process, at once. Call it after your own code has committed the row;
 * {@link blacklistToken} does both.
 *
 * The mark lives 3600 s; after that, after an eviction, and for a process that cannot reach the store at that
 * moment, the row in the source answers: without a row the token would count again.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateTokenCache(
  tokenId: string,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

/** One row of `token_blacklist`. */
export interface TokenRevocation {
  /** The token's id, 1 to 255 characters. */
  readonly jti: string;
  readonly userId: string;
  /** At most 20 characters. */
  readonly tokenType: 'access' | 'refresh' | (string & {});
  /**
   * When the token would have expired: a `Date`, ISO-8601 text, or milliseconds since 1970. A JWT's `exp` is
   * seconds.
   */
  readonly expiresAt: Date | string | number;
  /** At most 50 characters, for example `logout`. */
  readonly reason: string;
  /** User id of who revoked it. */
  readonly blacklistedBy?: string | undefined;
  /** At most 45 characters. Written to the row only, never to the cache or the log. */
  readonly ipAddress?: string | undefined;
  /** Written to the row only, never to the cache or the log. */
  readonly userAgent?: string | undefined;
}

export interface BlacklistResult extends InvalidationResult {
  /** `false`: the token was already in the table; its row is unchanged. */
  readonly inserted: boolean;
}

/**
 * Revokes a token: writes its row to `token_blacklist`, then marks it in the cache for every process. Calling
 * it again is harmless, also after it rejected.
 *
 * @returns `inserted`, and how far the mark got. The row is the truth either way.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE`: it is not certain that the row was written; call
 * again. (S1, S3)
 */
export function blacklistToken(
  revocation: TokenRevocation,
  options?: CallOptions | undefined,
): Promise<BlacklistResult>;

/**
 * Makes every cached JWT payload of a user void, for a changed password or "log out everywhere". Tokens
 * issued before this moment are not cached again; each has to pass `verify` every time.
 *
 * It does not revoke the tokens: they stay valid for `verify` unless that checks a password version or the
 * like, or {@link blacklistToken} is called for each.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1,
 * here)
 */
export function invalidateAllUserTokens(
  userId: string,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

// -----------------------------------------------------------------------------------------------------------
// Users
// -----------------------------------------------------------------------------------------------------------

/** A user as cached: the columns of `users` without `password_hash`, which is never read. */
export interface User {
  readonly user_id: string;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  readonly is_active: boolean;
  readonly email_verified: boolean | null;
  /** 0 is a provider like any other; `null` is none. */
  readonly provider_uid: number | null;
  /** ISO-8601. */
  readonly created_at: string | null;
  /** ISO-8601. */
  readonly updated_at: string | null;
}

/** A user as your own query returns it. Fields {@link User} does not have are left out, not stored. */
export interface UserInput {
  readonly user_id: string;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  /** `false` and `null` are stored as a denial. */
  readonly is_active: boolean | null;
  readonly email_verified?: boolean | null | undefined;
  readonly provider_uid?: number | null | undefined;
  readonly created_at?: Date | string | null | undefined;
  readonly updated_at?: Date | string | null | undefined;
}

/**
 * A user who may log in, by id. Drop-in for the query on `users`.
 *
 * Entry `user_basic:{id}`, 300 s. `null` is cached as well, so asking again for a deactivated user costs no
 * query.
 *
 * @returns `null` for an unknown user, one with `is_active` false or NULL, and a deleted one.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE` when neither store nor source can tell; never
 * `null` then. (S1, S3)
 */
export function getUserById(userId: string, options?: CallOptions | undefined): Promise<User | null>;

/**
 * The same by e-mail address, compared as the column holds it. The store knows the address only as a SHA-256
 * (`user_email:{sha256}`), which leads to the `user_basic` entry, so {@link invalidateUserCache} covers both.
 *
 * @returns as {@link getUserById}.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE`, as {@link getUserById}. (here)
 */
export function getUserByEmail(email: string, options?: CallOptions | undefined): Promise<User | null>;

/**
 * Makes what is cached about a user void for every process: the user and the user's context alike, so it does the
 * same as {@link invalidateUserContext}. Call it after the change is committed, not inside the transaction: a read in
 * between would load the old row again. `holdMs` is for callers who cannot wait for the commit.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateUserCache(
  userId: string,
  options?: InvalidateUserOptions | undefined,
): Promise<InvalidationResult>;

/**
 * The cached user, without asking the source.
 *
 * @returns `null` when nothing is cached, the store cannot be asked, or a denial is cached. {@link
 * getUserById} tells these apart. (S1)
 */
export function getCachedUserBasic(userId: string, options?: CallOptions | undefined): Promise<User | null>;

/**
 * Puts a user into the cache for 300 s. The object you give may be older than an invalidation you do not know
 * of, so the source is read again and decides what is stored: {@link getUserById} does the same in one call.
 *
 * @param user its `user_id` must be `userId`, else `E_INVALID_ARGUMENT`.
 * @returns whether what is stored now equals the given user; always `false` without a database or without the
 * store. (S1)
 */
export function cacheUserBasic(
  userId: string,
  user: UserInput,
  options?: CallOptions | undefined,
): Promise<boolean>;

// -----------------------------------------------------------------------------------------------------------
// JWT payloads
// -----------------------------------------------------------------------------------------------------------

/** The registered claims; give your own interface as the type argument for the rest. Times are in seconds. */
export interface JWTPayload {
  readonly jti?: string | undefined;
  readonly sub?: string | undefined;
  readonly iss?: string | undefined;
  readonly aud?: string | readonly string[] | undefined;
  readonly exp?: number | undefined;
  readonly nbf?: number | undefined;
  readonly iat?: number | undefined;
  readonly [claim: string]: unknown;
}

/**
 * The payload of a token that was verified before, without verifying it again.
 *
 * Entry `jwt_payload:{jti}`, bound to a SHA-256 of the whole token text: the same `jti` with another
 * signature, header or claim is a miss. Never given after the token's `exp`.
 *
 * @typeParam T shape of the payload; it is not checked.
 * @returns `null` when unknown, void, expired, not a JWT with a `jti`, or the store cannot be asked: verify
 * it. (S1)
 */
export function getCachedJWTPayload<T extends object = JWTPayload>(
  token: string,
  options?: CallOptions | undefined,
): Promise<Readonly<T> | null>;

/**
 * Stores the payload of a token for 300 s or until its `exp`, whichever comes first. **Only call it with what
 * your verification returned**: what is stored counts as verified.
 *
 * @param payload as JSON would carry it; values JSON does not know are lost.
 * When your verification began is not known here, so what an invalidation leaves behind decides: for five
 * minutes after {@link invalidateJWTPayload} nothing is stored for that `jti`, and after {@link
 * invalidateAllUserTokens} nothing for tokens issued up to that second. A store that evicts that very mark in
 * the moments between your verification and this call cannot tell; {@link verifyTokenCached} always can.
 *
 * @returns whether it was stored. Not stored: a token that is no JWT with a `jti`, is expired, names no user
 * (`jwtUserClaims`), has an entry already, or is held back as above. (S1)
 */
export function cacheJWTPayload(
  token: string,
  payload: object,
  options?: CallOptions | undefined,
): Promise<boolean>;

/**
 * Makes the cached payload of one token void, for a logout. It does not revoke the token; {@link
 * blacklistToken} does.
 *
 * @param tokenId the token's `jti`.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateJWTPayload(
  tokenId: string,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

/**
 * The payload of a token: from the cache, else from `verify`, whose result is then cached as by
 * {@link cacheJWTPayload}. A token that cannot be cached is simply verified every time.
 *
 * It does not look at the blacklist: call {@link isTokenBlacklisted} as well, or {@link authorizeRequest}, which
 * does both. Calls made in the same turn of the event loop share one round trip.
 *
 * @param verify checks signature and claims and returns the payload, or throws. Runs on the calling thread
 * and keeps its `AsyncLocalStorage`; at most once at a time per token and thread. What it throws is passed on
 * unchanged and is not cached. `signal` and `deadlineMs` end the waiting for it, not `verify` itself.
 * @returns the payload as JSON carries it, frozen, the first time and later alike. (S1)
 */
export function verifyTokenCached<T extends object = JWTPayload>(
  token: string,
  verify: (token: string) => T | Promise<T>,
  options?: CallOptions | undefined,
): Promise<Readonly<T>>;

// -----------------------------------------------------------------------------------------------------------
// Roles, organizations, contexts
// -----------------------------------------------------------------------------------------------------------

/** A permission as cached; only active ones are. */
export interface Permission {
  readonly permission_id: string;
  /** Usually `resource:action:scope`, but what counts are the three columns. */
  readonly name: string;
  readonly description: string | null;
  readonly resource: string;
  readonly action: string;
  /** Each includes the ones before it; any other word grants nothing. */
  readonly scope: 'own' | 'organization' | 'all' | (string & {});
  readonly is_active: boolean;
  /** ISO-8601, UTC, milliseconds. */
  readonly created_at: string | null;
  /** ISO-8601, UTC, milliseconds. */
  readonly updated_at: string | null;
}

/** A role as cached; only active ones that are not deleted are. */
export interface Role {
  readonly role_id: string;
  readonly name: string;
  readonly description: string | null;
  /** The organization that defined the role; `null`: everybody's. */
  readonly organization_id: string | null;
  readonly is_system_role: boolean | null;
  readonly is_active: boolean;
  /** ISO-8601, UTC, milliseconds. */
  readonly created_at: string | null;
  /** ISO-8601, UTC, milliseconds. */
  readonly updated_at: string | null;
  readonly deleted_at: null;
  /** Each once, by name in the order of bytes. */
  readonly permissions: readonly Permission[];
}

/** An organization as cached; only active ones that are not deleted are. */
export interface Organization {
  readonly organization_id: string;
  readonly name: string;
  readonly slug: string;
  readonly parent_organization_id: string | null;
  /** 0 is a practice like any other. */
  readonly practice_uids: readonly number[];
  readonly is_active: boolean;
  /** ISO-8601, UTC, milliseconds. */
  readonly created_at: string | null;
  /** ISO-8601, UTC, milliseconds. */
  readonly updated_at: string | null;
  readonly deleted_at: null;
}

/** A role assigned to a user, in force: active, not expired, its role and its organizations active. */
export interface UserRole {
  readonly user_role_id: string;
  readonly user_id: string;
  readonly role_id: string;
  /** Where the role holds; `null`: everywhere. */
  readonly organization_id: string | null;
  readonly granted_by: string | null;
  /** ISO-8601, UTC, milliseconds. */
  readonly granted_at: string | null;
  /** ISO-8601, UTC, milliseconds; `null`: never. From that moment on the assignment is in no context. */
  readonly expires_at: string | null;
  readonly is_active: boolean;
}

/** A membership in force: active, its organization active. */
export interface UserOrganization {
  readonly user_organization_id: string;
  readonly user_id: string;
  readonly organization_id: string;
  readonly is_active: boolean;
  /** ISO-8601, UTC, milliseconds. */
  readonly joined_at: string | null;
}

/**
 * One user with everything authorization depends on. Only what is in force is in it: nothing inactive (NULL counts
 * as inactive), deleted or expired.
 */
export interface UserContext {
  readonly user_id: string;
  readonly email: string;
  readonly first_name: string;
  readonly last_name: string;
  /** Always `true`: nobody else has a context. */
  readonly is_active: boolean;
  readonly email_verified: boolean | null;
  /** 0 is a provider like any other; `null` is none. */
  readonly provider_uid: number | null;
  /** Each once, by name in the order of bytes. */
  readonly roles: readonly Role[];
  /** Those the user is a member of, in the order of joining. */
  readonly organizations: readonly Organization[];
  /**
   * Those and everything below them, by name in the order of bytes. An inactive organization cuts off what is
   * below it.
   */
  readonly accessible_organizations: readonly Organization[];
  /** Practices of those, each once, ascending. Empty means none, never "all". */
  readonly accessible_practices: readonly number[];
  /** Assignments, the oldest first. One role may be assigned several times. */
  readonly user_roles: readonly UserRole[];
  /** Memberships, the oldest first. */
  readonly user_organizations: readonly UserOrganization[];
  /** The first of `organizations`; `null`: there is none. */
  readonly current_organization_id: string | null;
  /** Permissions of all roles, each once, by name in the order of bytes. */
  readonly all_permissions: readonly Permission[];
  /** See `rbacSuperAdminRoles`. */
  readonly is_super_admin: boolean;
  /** Ids of organizations, ascending, see `rbacOrganizationAdminRoles`. */
  readonly organization_admin_for: readonly string[];
}

/**
 * How current a context must be.
 *
 * | | promise | cost |
 * | --- | --- | --- |
 * | `validated` | nothing older than the last acknowledged invalidation | one round trip to the store |
 * | `bounded` | at most `rbacBoundedMs` older than that | usually none: an object of this process |
 * | `fresh` | what the source says now | one statement |
 *
 * `validated` is the default; where the option `near` makes `user_context` `bounded`, it means that, with the age
 * given there. `bounded` is for menus and the like; it becomes `validated` by itself while invalidations of other
 * processes cannot be heard. `fresh` is for what cannot be taken back: exports, changes of permissions.
 *
 * Only `fresh` is one snapshot of the source. The others are made of the user's part, the roles and the organizations,
 * each of which is as current as promised, but they may have been read at different moments: a transaction that changes
 * two of them, such as taking a role from a user and giving that role more rights, can be seen half until its
 * invalidation is acknowledged. Where that would be wrong, make it two transactions, the one that takes away first.
 */
export type Consistency = 'validated' | 'bounded' | 'fresh';

/** Options of {@link getCachedUserContext}. */
export interface ContextOptions extends CallOptions {
  readonly consistency?: Consistency | undefined;
}

/** Options of the invalidations of this section. */
export interface InvalidateOptions extends CallOptions {
  /**
   * Milliseconds, 1 to 60000, during which nothing is stored in place of what was invalidated; reads go to the
   * source meanwhile. For callers inside a transaction that is not committed yet, whose change a read would not
   * see: give more than the transaction still takes. Omitted: call it after the commit.
   */
  readonly holdMs?: number | undefined;
}

/** Options of {@link invalidateUserCache}. */
export interface InvalidateUserOptions extends InvalidateOptions {
  /** Why, for the log: at most 64 characters of `A-Z a-z 0-9 _ . : -`. */
  readonly reason?: string | undefined;
}

/**
 * The context of a user: roles, permissions, organizations, practices.
 *
 * It is composed of three kinds of entries, each valid on its own: the user's part `user_context:{id}` (300 s), each
 * role `role_perms:{id}` (24 h) and the organizations `org_tree:all` (4 h). A changed role is therefore one
 * invalidation, however many users have it. What is missing is loaded in one statement, and roles that only the user's
 * part has named in a second one; calls made at the same time share them. While nothing changes, the same object is
 * handed out again.
 *
 * @returns a frozen object. Pass it on as it is: {@link scopeOf} takes no copies.
 * @throws {NotFoundError} `E_NOT_FOUND` for a user without a context, also when that is cached; `reason` is
 * `unknown`, `inactive` (`is_active` false or NULL) or `deleted`. Answer 401.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE` when neither store nor source can tell. Answer 503.
 * (S1, S3)
 */
export function getCachedUserContext(
  userId: string,
  options?: ContextOptions | undefined,
): Promise<UserContext>;

/**
 * A role with its permissions. Entry `role_perms:{id}`, 24 h; that there is none is remembered for 300 s, so call
 * {@link invalidateRolePermissions} also for a role that was made or activated.
 *
 * @returns `null` for an unknown, inactive or deleted role.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE` when neither store nor source can tell; never `null`
 * then. (S1)
 */
export function getCachedRolePermissions(
  roleId: string,
  options?: CallOptions | undefined,
): Promise<Role | null>;

/**
 * Whether a context allows something. *Synchronous*, asks nobody.
 *
 * A super administrator may do everything. For everybody else one permission of `all_permissions` must have the
 * same resource and action, and the same scope or a broader one: `all` includes `organization`, which includes
 * `own`.
 *
 * @param context from {@link getCachedUserContext}; any object of that shape is judged alike.
 * @param permission `resource:action:scope`, for example `users:update:organization`.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for a text of another form or with an unknown scope, whoever
 * asks: a misspelt permission must not look like a denied one. (S1)
 */
export function hasPermission(context: UserContext, permission: string): boolean;

/**
 * Which rows of analytics data a caller may see. Frozen; made by {@link scopeOf} only. `instanceof` also holds when
 * a bundler has loaded the package twice, and does not hold for copies, proxies or heirs of one. It is proof against
 * everything a client can send, in whatever way it is parsed or merged; not against code that runs in this process.
 *
 * Switch on `kind` first: for `nothing` and for `all` the lists say nothing.
 *
 * ```ts
 * switch (scope.kind) {
 *   case 'nothing': return [];
 *   case 'rows': return sql`... WHERE practice_uid = ANY(${scope.practices})
 *     AND (${scope.providers}::int[] IS NULL OR provider_uid = ANY(${scope.providers}))`;
 *   case 'all': return sql`...`;
 * }
 * ```
 */
export class Scope {
  private constructor();
  /** Not there: keeps objects of the same shape out. */
  private readonly made: true;
  /** `nothing`: not a single row. `rows`: those of `practices` and `providers`. `all`: every row. */
  readonly kind: 'nothing' | 'rows' | 'all';
  /** Not empty for `rows`; empty otherwise. */
  readonly practices: readonly number[];
  /** For `rows`: `null` any provider, rows without one included; otherwise not empty. `[]` for `nothing`. */
  readonly providers: readonly number[] | null;
}

/**
 * The scope a context has for one kind of data. *Synchronous*, asks nobody.
 *
 * The broadest scope in which `permission` was granted decides:
 *
 * | granted | scope |
 * | --- | --- |
 * | `all`, or super administrator | `all` |
 * | `organization` | rows of `accessible_practices`, any provider; `nothing` without a practice |
 * | `own` | rows of `accessible_practices` of `provider_uid`; `nothing` without a provider or a practice |
 * | not at all | `nothing` |
 *
 * @param context the very object from {@link getCachedUserContext} or {@link authorizeRequest} of this copy of the
 * package.
 * @param permission `resource:action`, default `analytics:read`.
 * @throws {ScopeError} `E_SCOPE` for any other object, a copy (`{ ...context }`, JSON) included: rights are not
 * taken from what somebody may have changed.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` when `permission` is not two parts. (here)
 */
export function scopeOf(context: UserContext, permission?: string | undefined): Scope;

/**
 * Runs `fn` so that it sees one state of authorization: the first context that is read for a user is what every
 * later {@link getCachedUserContext} and {@link authorizeRequest} inside gives, the same object. Two checks of one
 * request then cannot contradict each other. It saves the round trips as well.
 *
 * - Holds for everything `fn` awaits or starts, until the promise of `fn` is settled, at most 60 s and 1,000 users;
 *   afterwards, and in work left running, reads are ordinary again. Requests do not see each other's.
 * - It keeps contexts, each as it was when it was first read: those of two users may be of different moments. What
 *   {@link getUserById} and {@link getCachedRolePermissions} give is read anew; the user and the roles of the snapshot
 *   are in its context.
 * - Failures are not kept. `consistency: 'fresh'` reads the source and leaves the snapshot as it is.
 * - An invalidation of users, roles or organizations that is made inside drops it, so a request sees its own writes.
 * - Inside another one it joins that.
 *
 * @returns what `fn` returns; a throw becomes a rejection. (here)
 */
export function withRequestSnapshot<T>(fn: () => T | PromiseLike<T>): Promise<T>;

// What to call after which change, once it is committed:
//
// | change | call |
// | --- | --- |
// | name, e-mail, provider, activation, deletion of a user | `invalidateUserContext(userId)` |
// | role assigned to a user, or removed | `invalidateUserContext(userId)` |
// | organization added to a user, or removed | `invalidateUserContext(userId)` |
// | permissions of a role, its name, activation, deletion | `invalidateRolePermissions(roleId)` |
// | role assigned to many users in bulk, or removed | `invalidateUsersWithRole(roleId)` |
// | a permission renamed, switched off, moved to another scope | `invalidateAllRolePermissions()` |
// | an organization's practices, parent, activation, deletion | `invalidateOrganizationHierarchy()` |
// | members of an organization in bulk | `invalidateOrganizationMembers(organizationId)` |
//
// With `cacheTailEnabled` the database tells all of this by itself; calling as well is faster and does no harm.

/**
 * Makes what is cached about a user void for every process: the user and the context. For a changed user,
 * assignment or membership.
 *
 * @param reason why, for the log (level `info`, component `rbac`): at most 64 characters of `A-Z a-z 0-9 _ . : -`,
 * for example `role_removed`.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateUserContext(
  userId: string,
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes a role and every context void, for every process: after the role was given to many users or taken from them,
 * also from those whose rows in `user_roles` are gone and who cannot be found any more. Costs later what {@link
 * invalidateAllRolePermissions} costs; for a change of the role itself {@link invalidateRolePermissions} is enough.
 *
 * @param reason as {@link invalidateUserContext}.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateUsersWithRole(
  roleId: string,
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes the organizations and every context void, for every process: after members of an organization were changed
 * in bulk. Costs later what {@link invalidateAllRolePermissions} costs.
 *
 * @param reason as {@link invalidateUserContext}.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateOrganizationMembers(
  organizationId: string,
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes the organizations void, for every process: after one was added, changed, moved, deactivated or deleted. One
 * entry; every user sees it with the next context.
 *
 * @param reason as {@link invalidateUserContext}.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateOrganizationHierarchy(
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes one role void, for every process: after its permissions or the role itself changed. One entry, however many
 * users have the role; all of them see it with their next context.
 *
 * @param reason as {@link invalidateUserContext}.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateRolePermissions(
  roleId: string,
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes everything contexts are composed of void, for every process: after a permission changed, or when in doubt.
 * Constant cost here, one load per user, role and tree when they are next needed.
 *
 * @param reason as {@link invalidateUserContext}.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateAllRolePermissions(
  reason?: string | undefined,
  options?: InvalidateOptions | undefined,
): Promise<InvalidationResult>;

// -----------------------------------------------------------------------------------------------------------
// Rate limits
// -----------------------------------------------------------------------------------------------------------

/**
 * Who decides while the store is away. `local`: every process, within its share of the limit. `open`: everything is
 * admitted. `closed`: everything is denied.
 */
export type OnStoreFailure = 'local' | 'open' | 'closed';

/** Options of a check of one limit. */
export interface RateLimitOptions extends CallOptions {
  /** What the check costs, default 1. Only what is admitted is charged, and always as a whole. */
  readonly cost?: number | undefined;
  /** Default: `rateLimitOnStoreFailure`. */
  readonly onStoreFailure?: OnStoreFailure | undefined;
}

/** What a rate limit says to one check. */
export interface RateLimitResult {
  readonly allowed: boolean;
  /**
   * What counts within the window now, this check included when it was admitted. When `degraded`, what is not left of
   * this process's share.
   */
  readonly current: number;
  readonly limit: number;
  /** What could be admitted now. */
  readonly remaining: number;
  /** Unix milliseconds at which all of it is back; now when all is there. (S1) */
  readonly resetTime: number;
  /** The same in Unix seconds, rounded up. */
  readonly resetAt: number;
  /**
   * Milliseconds until a check of this cost fits, exact unless `degraded`: sooner it never does, then it does unless
   * somebody else was faster. 0 when admitted, `Infinity` when it costs more than the whole limit.
   */
  readonly retryAfterMs: number;
  /** Milliseconds until more than `remaining` could be admitted; 0 when all is there. */
  readonly replenishAfterMs: number;
  /** Decided by this process alone: no store is configured, or it did not answer. */
  readonly degraded: boolean;
  /** Present when it was denied because there is no store and the policy is `closed`. */
  readonly unavailable?: true | undefined;
  /** The limit's name. */
  readonly type: string;
  readonly windowSeconds: number;
}

/** What several limits say together. The other properties are those of the limit that decides. */
export interface CombinedRateLimitResult extends RateLimitResult {
  /**
   * In the order they were given. When it is known from before that one denies, the others are not asked and
   * missing here.
   */
  readonly results: readonly RateLimitResult[];
}

/** One of several limits. `limit` and `windowSeconds` may both be left out for a named limit, see `rateLimits`. */
export interface RateLimitCheck {
  /** The limit's name. */
  readonly type: string;
  /** Whose limit. */
  readonly identifier: string;
  readonly limit?: number | undefined;
  readonly windowSeconds?: number | undefined;
  /** Default 1. */
  readonly cost?: number | undefined;
  /** Default: that of the named limit, else `rateLimitOnStoreFailure`. */
  readonly onStoreFailure?: OnStoreFailure | undefined;
}

/**
 * Checks and charges a limit shared by all processes: at most `limit` within *any* window of `windowSeconds`, not
 * within those that begin on the minute.
 *
 * ```ts
 * const result = await checkRateLimit('export', userId, 10, 3600);
 * if (!result.allowed) return rateLimitResponse(result);
 * ```
 *
 * - `type` and `identifier` name one count, whatever limit it is compared with: a limit may be changed at run time
 *   and keeps its history. Two limits of the
 *   same identifier, such as 10 a second and 500 an hour, need two types; so do two of {@link checkUserRateLimit} and
 *   its like, whose type is fixed: use this function for them.
 * - The key is `ratelimit:{type}:{{identifier}}`, percent-escaped but readable: pass ids, not e-mail addresses. Of
 *   more than 256 characters the SHA-256 is counted.
 * - Limits up to 1,000 are exact to the millisecond. Larger ones count an admission up to a twentieth of the window
 *   too long, hence never admit too much, and take less than 600 bytes.
 * - Calls of one turn travel in one round trip, those of one limit as one evaluation, in their order; 64 calls and more
 *   travel in two halves, one after the other. A denied
 *   identifier costs no command until `retryAfterMs` is over, or one a second where the user of the store may not
 *   SUBSCRIBE.
 * - While the store is away each process goes on within its share of the limit, counts what it knows of the others
 *   until it is over, and tells the store what it admitted before the store is believed again. In any window at most
 *   the limit and once more the larger of the limit and the number of processes is admitted.
 * - Exceptions. A process that was started during the outage, or whose user of the store may not SUBSCRIBE, knows of no
 *   other and takes the whole limit. A server that comes back empty, or evicts keys, has forgotten what it admitted: up
 *   to the limit once more for each time. A failover forgets what was not replicated, a server clock that jumps forward
 *   by d makes a window d shorter, and a process remembers the 131,072 identifiers it was asked for last, in at most
 *   64 MiB.
 * - A check is never sent twice. When its answer is lost this process decides, and it may count twice, never not at
 *   all.
 *
 * @param type name of the limit, not empty.
 * @param identifier whose count, for example a user id or what {@link getRateLimitKey} returns. Stands in the key of the
 * store as it is, a long one as its digest, and in no log.
 * @param limit 1 to 1,000,000,000.
 * @param windowSeconds 0.001 to 2,147,483 (24 days). (S1)
 */
export function checkRateLimit(
  type: string,
  identifier: string,
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/**
 * {@link checkRateLimit} of type `ip` for a client's address. IPv6 counts by /64, which is what one customer gets;
 * {@link resetRateLimit} and the others of type `ip` take an address as well.
 *
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` when `ip` is no address. (S1)
 */
export function checkIpRateLimit(
  ip: string,
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/** {@link checkRateLimit} of type `user`. (S1) */
export function checkUserRateLimit(
  userId: string,
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/** {@link checkRateLimit} of type `endpoint`: everybody's calls of it together. (S1) */
export function checkEndpointRateLimit(
  endpoint: string,
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/** {@link checkRateLimit} of type `global`: everything together. (S1) */
export function checkGlobalRateLimit(
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/**
 * Checks up to 16 limits at once and charges all of them or none.
 *
 * On one server, and on a cluster for limits of one `identifier`, that is one atomic command. Limits of different
 * identifiers lie on different nodes of a cluster: they are charged in one round trip, and when one denies, the
 * others are given back what they charged before this resolves. In between they may deny somebody else; should the
 * store fail in that moment they stay charged. Calls with several limits are not joined: each is a command of its own,
 * in the same round trip. (here)
 */
export function checkRateLimits(
  limits: readonly RateLimitCheck[],
  options?: CallOptions | undefined,
): Promise<CombinedRateLimitResult>;

/** What {@link checkRateLimit} would say, without charging anything. (here) */
export function peekRateLimit(
  type: string,
  identifier: string,
  limit: number,
  windowSeconds: number,
  options?: RateLimitOptions | undefined,
): Promise<RateLimitResult>;

/**
 * Forgets what was counted, and a block, for every process. Queued and replayed when the store is away. (S1)
 */
export function resetRateLimit(
  type: string,
  identifier: string,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Denies everything for `blockSeconds` (up to ten years). Never shortens a block; 0 lifts it. `limit` and
 * `windowSeconds` are those the count is checked with: what was counted is kept.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when the store did not take it; then it holds for this
 * process, and only while the store is away. (here)
 */
export function blockRateLimit(
  type: string,
  identifier: string,
  limit: number,
  windowSeconds: number,
  blockSeconds: number,
  options?: CallOptions | undefined,
): Promise<void>;

/**
 * Gives back `cost` of what was admitted last, for example for requests that failed through no fault of the client.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when the store did not take it. (here)
 */
export function rewardRateLimit(
  type: string,
  identifier: string,
  limit: number,
  windowSeconds: number,
  cost: number,
  options?: CallOptions | undefined,
): Promise<void>;

/** What a limiter object says. (S1) */
export interface LimiterResult extends RateLimitResult {
  /** As `allowed`. */
  readonly success: boolean;
}

/** Options of {@link RedisRateLimiter}. */
export interface RedisRateLimiterOptions {
  /**
   * Its name in the store. Omitted: made of limit and window, so that two limiters that are alike share their
   * counts and others do not.
   */
  readonly name?: string | undefined;
  readonly onStoreFailure?: OnStoreFailure | undefined;
  /** Default: the default engine, found at the first check. */
  readonly engine?: Engine | undefined;
}

/**
 * One limit as an object. Connects to nothing and needs no disposal.
 *
 * ```ts
 * const login = new RedisRateLimiter(15 * 60_000, 20, { name: 'login' });
 * const { success, remaining, resetTime } = await login.checkLimit(userId);
 * ```
 */
export class RedisRateLimiter {
  /**
   * @param windowMs 1 to 2,147,483,647.
   * @param maxRequests 1 to 1,000,000,000.
   * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` (S1)
   */
  constructor(windowMs: number, maxRequests: number, options?: RedisRateLimiterOptions | undefined);
  readonly windowMs: number;
  readonly maxRequests: number;
  readonly name: string;
  /** As {@link checkRateLimit}. (S1) */
  checkLimit(identifier: string, options?: RateLimitOptions | undefined): Promise<LimiterResult>;
  /** As {@link resetRateLimit}. (here) */
  resetLimit(identifier: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
}

/** Anything with headers: a `Request`, a `NextRequest`, or the request of `node:http`. */
export interface RateLimitRequest {
  readonly headers:
    | { get(name: string): string | null }
    | Readonly<Record<string, string | readonly string[] | undefined>>;
}

/** How the address of a client is found, see {@link getRateLimitKey}. */
export interface RateLimitKeyOptions {
  /**
   * How many proxies every request passes (1 behind one load balancer), or which: addresses and CIDR blocks. Nobody
   * may reach the application around them.
   */
  readonly trustedProxies: number | readonly string[];
  /**
   * Default `x-forwarded-for`. `forwarded` is read as RFC 7239 says. Of any other header exactly one address is
   * expected, and the proxy must set it whatever the client sent (`cf-connecting-ip`).
   */
  readonly header?: string | undefined;
  /**
   * The address of the connection, where the runtime tells it (`request.socket.remoteAddress`). There but `null` or
   * `undefined`, it should be known and is not: with a list of proxies nothing is trusted then.
   */
  readonly remoteAddress?: string | null | undefined;
}

/**
 * The address of a client as an identifier: `ip:203.0.113.7`, or `ip:2001:db8:1:2::/64`. *Synchronous.*
 *
 * Hops are read from the right, as far as they are trusted: what the client wrote into the header cannot choose the
 * bucket.
 *
 * @returns `null` when no address can be trusted. There is no bucket for those: it would be everybody's.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for options that are not understood. (S1)
 */
export function getRateLimitKey(request: RateLimitRequest, options: RateLimitKeyOptions): string | null;

/** Options of {@link applyRateLimit}. */
export interface ApplyRateLimitOptions extends RateLimitOptions {
  /** Whose count. Omitted: the client's address, found as {@link getRateLimitKey} does. */
  readonly identifier?: string | undefined;
  /** Default: `rateLimitTrustedProxies`. */
  readonly trustedProxies?: number | readonly string[] | undefined;
  /** As in {@link RateLimitKeyOptions}. */
  readonly header?: string | undefined;
  /** As in {@link RateLimitKeyOptions}. */
  readonly remoteAddress?: string | null | undefined;
}

/** What {@link applyRateLimit} resolves to. */
export interface AppliedRateLimit extends LimiterResult {
  /** When denied: status 429 (503 without a store), headers and `application/problem+json`, ready to be returned. */
  readonly response: Response | null;
}

/**
 * Counts a request against a named limit: `auth` 20 in 15 minutes, `mfa` 5 in 15 minutes, `upload` 300, `api` 500
 * and `session_read` 500 a minute, `admin_cli` 1 a minute, `warming` 10 and `invalidate` 20 an hour (by user: pass
 * `identifier`). `rateLimits` changes them and adds others.
 *
 * ```ts
 * const limit = await applyRateLimit(request, 'api');
 * if (limit.response) return limit.response;
 * return addRateLimitHeaders(await handle(request), limit);
 * ```
 *
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for a name that does not exist, and when there is neither an
 * `identifier` nor an address that can be trusted.
 * @throws {ConfigError} `E_CONFIG` when `rateLimitTrustedProxies` is needed and not set. (S1)
 */
export function applyRateLimit(
  request: RateLimitRequest,
  type?: string | undefined,
  options?: ApplyRateLimitOptions | undefined,
): Promise<AppliedRateLimit>;

/**
 * Tells the client about its limits: `X-RateLimit-Limit`, `-Remaining` and `-Reset` (Unix seconds), `RateLimit` and
 * `RateLimit-Policy` (IETF draft 11), and `Retry-After` when denied. *Synchronous.*
 *
 * @param response a `Response`, `Headers`, or anything with `setHeader`.
 * @returns the same, or a copy of a `Response` whose headers cannot be changed.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for anything else. (S1)
 */
export function addRateLimitHeaders<T>(response: T, result: RateLimitResult | CombinedRateLimitResult): T;

/**
 * The answer to a denied request: status 429 with `application/problem+json` and the headers above, 503 when it was
 * denied for want of a store. *Synchronous.*
 *
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` when `result` is allowed. (here)
 */
export function rateLimitResponse(
  result: RateLimitResult | CombinedRateLimitResult,
  init?: { readonly headers?: ConstructorParameters<typeof Headers>[0] } | undefined,
): Response;

// -----------------------------------------------------------------------------------------------------------
// One request
// -----------------------------------------------------------------------------------------------------------

/** What both forms of {@link AuthorizeRequest} have. A property that is not listed is refused, not ignored. */
export interface AuthorizeChecks {
  /**
   * The id that is looked up in the blacklist. Omitted: the token's `jti`, and without a token none. `null`: the
   * blacklist is not asked.
   */
  readonly tokenId?: string | null | undefined;
  /**
   * `resource:action:scope`, or several that are all needed, judged as by {@link hasPermission}. Omitted or
   * `undefined`: none is asked for. An empty list is refused: it would let everybody in.
   */
  readonly permission?: string | readonly string[] | undefined;
  /** As {@link getCachedUserContext}. It is about the context; the blacklist is never asked less strictly. */
  readonly consistency?: Consistency | undefined;
  /**
   * The limits this request counts against, once, whatever else becomes of it: a request without a token counts, too.
   * Charged in the same round trip, all or none as by {@link checkRateLimits}. Never take an `identifier` from a token
   * that is not verified yet: whoever forges one would spend the limit of somebody else.
   */
  readonly limit?: RateLimitCheck | readonly RateLimitCheck[] | undefined;
}

/** A request that must carry a token. */
export interface AuthorizeTokenRequest<T extends object = JWTPayload> extends AuthorizeChecks {
  /**
   * The token as the client sent it. The property being there is what says that a token is needed: `undefined`,
   * `null` and `''` are `token_missing`.
   */
  readonly token: string | null | undefined;
  /**
   * As for {@link verifyTokenCached}; called when the payload is not cached. Omitted: such a token is
   * `token_unverified`.
   */
  readonly verify?: ((token: string) => T | Promise<T>) | undefined;
  /** Whom the token must belong to. Omitted: whom it says. Either way the verified payload must say the same. */
  readonly userId?: string | undefined;
}

/** A request without a token: you vouch for the user id, for example from a session of your own. */
export interface AuthorizeSessionRequest extends AuthorizeChecks {
  readonly token?: never;
  readonly verify?: never;
  /** Never take it from what the client sent. */
  readonly userId: string;
}

/** What {@link authorizeRequest} is asked. */
export type AuthorizeRequest<T extends object = JWTPayload> =
  | AuthorizeTokenRequest<T>
  | AuthorizeSessionRequest;

/**
 * Why a request was not let in.
 *
 * | reason | status | meaning |
 * | --- | --- | --- |
 * | `token_missing` | 401 | the request carries no token |
 * | `token_invalid` | 401 | `verify` threw (`cause`), or the token has no usable `jti` or user id |
 * | `token_unverified` | 401 | the payload is not cached and there is no `verify` |
 * | `token_revoked` | 401 | the token is on the blacklist |
 * | `token_mismatch` | 401 | the verified payload names another user, or none |
 * | `user_unknown` | 401 | no such user |
 * | `user_inactive` | 401 | `is_active` is false or NULL |
 * | `user_deleted` | 401 | `deleted_at` is set |
 * | `forbidden` | 403 | a permission that was asked for is missing |
 * | `rate_limited` | 429 | beyond `limit`; nothing else was looked at (`rateLimit`, `retryAfterMs`) |
 * | `unavailable` | 503 | nobody could tell in time (`cause`): ask again after `retryAfterMs` |
 */
export type AuthorizeReason =
  | 'token_missing'
  | 'token_invalid'
  | 'token_unverified'
  | 'token_revoked'
  | 'token_mismatch'
  | 'user_unknown'
  | 'user_inactive'
  | 'user_deleted'
  | 'forbidden'
  | 'rate_limited'
  | 'unavailable';

/** The request may go on. */
export interface Authorized<T extends object = JWTPayload> {
  readonly ok: true;
  /** As in the context. */
  readonly userId: string;
  /** The token's id; `null`: there is none. */
  readonly tokenId: string | null;
  /** The verified payload, frozen; `null` without a token. */
  readonly payload: Readonly<T> | null;
  readonly user: User;
  /** For {@link hasPermission} and {@link scopeOf}. */
  readonly context: UserContext;
  /** What the limits said, for {@link addRateLimitHeaders}; present when they were asked. */
  readonly rateLimit?: CombinedRateLimitResult | undefined;
}

/** The request must not go on. */
export interface AuthorizeDenied {
  readonly ok: false;
  readonly reason: AuthorizeReason;
  readonly status: 401 | 403 | 429 | 503;
  /** One sentence for people, without personal data. */
  readonly message: string;
  /** What `verify` threw, or the error behind `unavailable`. Not for the client. */
  readonly cause?: unknown;
  /** Milliseconds; with `unavailable` and `rate_limited`. */
  readonly retryAfterMs?: number | undefined;
  /** What the limits said, for {@link rateLimitResponse} and {@link addRateLimitHeaders}. */
  readonly rateLimit?: CombinedRateLimitResult | undefined;
}

/** What {@link authorizeRequest} resolves to; `ok` tells which. */
export type AuthorizeResult<T extends object = JWTPayload> = Authorized<T> | AuthorizeDenied;

/**
 * Everything a request has to pass, in one round trip: rate limits, blacklist, cached JWT payload, context,
 * permissions.
 *
 * ```ts
 * const result = await authorizeRequest({ token, verify, permission: 'reports:read:organization' });
 * if (!result.ok) return Response.json({ error: result.reason }, { status: result.status });
 * const { user, context } = result;
 * ```
 *
 * - Every outcome the client may cause is a result; only your own mistakes (`E_INVALID_ARGUMENT`, `E_CLOSED`) and
 *   an aborted `signal` reject. A refusal is never guessed and never the consequence of a failure: that is
 *   `unavailable`.
 * - Nothing about a user is given out because a token names them: the payload that `verify` returned must name the
 *   same user in the first of `jwtUserClaims` it has. When `configure` sets those, call it in every worker thread.
 * - A revoked token is not verified any more; the blacklist is asked even for a cached payload.
 * - `verify` runs as in {@link verifyTokenCached}, after the round trip and only for a payload that is not cached.
 *   What only the source can tell about such a token is asked after it, in one more: a forged one never makes the
 *   database work for the ids it names.
 * - Inside {@link withRequestSnapshot} the context is the one of the snapshot.
 *
 * @typeParam T shape of the payload; it is not checked.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for an unknown property, a `permission` that is not understood,
 * no user id without a token, or a `verify` without one. (here)
 */
export function authorizeRequest<T extends object = JWTPayload>(
  request: AuthorizeRequest<T>,
  options?: CallOptions | undefined,
): Promise<AuthorizeResult<T>>;

// -----------------------------------------------------------------------------------------------------------
// Results of data sources
// -----------------------------------------------------------------------------------------------------------

/** Options of {@link queryDataSourceWithCache}. */
export interface DataSourceOptions extends CallOptions {
  /**
   * Whatever else decides which rows the caller may see: `scopeOf(context)`, or a text. Part of the key: two callers
   * share a result only if organizations and this are equal. Organizations alone do not tell an administrator from a
   * member of the same ones, nor who sees only their own rows.
   */
  readonly scopeKey?: string | Scope | undefined;
  /** IANA name of the time zone in which an end date is "today". Default `UTC`. */
  readonly timeZone?: string | undefined;
  /** `true`: the result as the text of a response, see {@link RawDataSourceResult}. */
  readonly raw?: boolean | undefined;
  /**
   * How long past its `expires_at` a result may still be answered, in milliseconds: a whole number from 0 to 86400000
   * (a day), default 0, not at all. Such an answer says `stale: true`, comes at once, and the query runs again in the
   * background, once over all processes.
   *
   * The trade: nobody waits for a result that was asked for lately, and what somebody reads may be older by that time.
   * It is older in nothing else. After an acknowledged invalidation nobody gets the old result, as stale either; a
   * result of `forceRefresh` is always new; no scope sees more than before, and authorization never takes part.
   *
   * Give all callers of a result the same. One without it waits for a query as ever, and its entry ends as ever.
   */
  readonly staleMs?: number | undefined;
  /**
   * Runs the query of a result again shortly before its end, in the background, so that no caller has to wait when it
   * ends. Which hit does so is left to chance (XFetch): with the probability exp(-left / (beta * took)), `left` being the
   * time to its end and `took` how long its query took. `true` is a `beta` of 1; more is earlier. Default `false`.
   *
   * The trade: a popular result is loaded a little more often, one that is hardly asked for is not.
   */
  readonly earlyRefresh?: boolean | { readonly beta?: number | undefined } | undefined;
}

/** Options of {@link queryAsResponse}. */
export interface DataSourceResponseOptions extends Omit<DataSourceOptions, 'raw'> {
  /** Runs the query whatever is cached. Default `false`. */
  readonly forceRefresh?: boolean | undefined;
}

/** What a query returns: its rows and, if it likes, how long it took and anything else that JSON carries. */
export interface DataSourceQueryResult<T = unknown> {
  readonly data: readonly T[];
  /** Milliseconds. Measured when it is missing. */
  readonly query_time_ms?: number | undefined;
}

/** A result, with whatever else the query has returned. `data` is frozen and shared by all who ask. (S1) */
export type DataSourceResult<R extends DataSourceQueryResult> = Omit<
  R,
  'query_time_ms' | 'data' | 'stale'
> & {
  readonly data: Readonly<R['data']>;
  /** How long the query took when it ran. */
  readonly query_time_ms: number;
  /** `false`: the query ran for this call. */
  readonly fromCache: boolean;
  /** For {@link invalidateDataSourceCache}. */
  readonly cacheKey: string;
  /** ISO-8601: when the query had ended. */
  readonly cached_at: string;
  /**
   * ISO-8601: from when on it is not answered any more; with `staleMs`, from when on it is stale. 1 to 5 % earlier than its
   * kind may live, so that what was loaded together ends apart.
   */
  readonly expires_at: string;
  /** Only with `staleMs`: whether this is past its `expires_at`. */
  readonly stale?: boolean | undefined;
};

/** A result that was not parsed. */
export interface RawDataSourceResult {
  /**
   * JSON of the object that would be returned otherwise, without `fromCache`, `cacheKey` and `stale`. Do not write to
   * it.
   */
  readonly json: Buffer;
  readonly fromCache: boolean;
  readonly cacheKey: string;
  /** As in {@link DataSourceResult}. */
  readonly stale?: boolean | undefined;
}

/**
 * The result of a query, cached by its parameters and by who may see it.
 *
 * ```ts
 * const { data, fromCache, cacheKey } = await queryDataSourceWithCache(
 *   { dataSourceId: 3, measure: 'Charges', start_date, end_date, advanced_filters },
 *   context.accessible_organizations,
 *   () => runQuery(filters), // { data, query_time_ms }
 *   request.nextUrl.searchParams.has('refresh'),
 *   { scopeKey: scopeOf(context) },
 * );
 * ```
 *
 * - **Key**: `datasource:{dataSourceId}:{hash}`; the id is `dataSourceId` (or `data_source_id`) of `params`, `default`
 *   without one. Order of properties, `undefined` and the order of organizations do not
 *   matter; the order inside arrays does. Nothing of the parameters can be read from it.
 * - **Lifetime** by `end_date`: today, later or missing 60 s, within the last seven days 300 s, older 3600 s; each less
 *   1 to 5 %, so that results that were loaded together are not loaded again together.
 * - The query runs on the calling thread and keeps its `AsyncLocalStorage`; at most once at a time per key over all
 *   processes that share the store, the others wait. One that takes longer than a minute may be run by somebody
 *   else, too, and is not stored; when its process dies, others wait for the rest of `cacheLeaseMs`. What it throws
 *   reaches every waiting caller of its process unchanged and is not cached.
 * - `signal` and `deadlineMs` end the waiting, not the query. What a query brings after its caller has gone is not
 *   stored, since it may have been cut short with it; those who wait for it run their own, one of them at a time. So a
 *   `deadlineMs` that the query cannot keep also keeps its result out of the cache.
 * - `forceRefresh` always runs the query, and everybody who asks meanwhile gets its result.
 * - `staleMs` and `earlyRefresh` run the query in the background, after its caller was answered: with the caller's
 *   `AsyncLocalStorage`, but without anybody who waits. A rejection there is counted (`getMetrics().dataSources`) and
 *   logged without its message, the old result stays as long as it may, and nobody tries again for 5 s.
 *   {@link close} does not wait for it.
 * - A result of more than `cacheDatasourceMaxBytes` is returned and not stored. From 4 KiB on it is stored compressed.
 * - Without the store every process answers for itself; the query's answer always arrives.
 *
 * @param params what the query depends on, as JSON carries it.
 * @param userOrganizations whose rows the caller may see, a set; `[]` is nobody's, `null` everybody's. May be left out
 * only when there is a `scopeKey`.
 * @typeParam R what the query returns; it is not checked.
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for parameters that have no canonical JSON, an `end_date` that is
 * no date, or a result that is no object. (S1)
 */
export function queryDataSourceWithCache<R extends DataSourceQueryResult>(
  params: object,
  userOrganizations: readonly string[] | null | undefined,
  queryFunction: () => Promise<R>,
  forceRefresh: boolean | undefined,
  options: DataSourceOptions & { readonly raw: true },
): Promise<RawDataSourceResult>;
export function queryDataSourceWithCache<R extends DataSourceQueryResult>(
  params: object,
  userOrganizations: readonly string[] | null | undefined,
  queryFunction: () => Promise<R>,
  forceRefresh?: boolean | undefined,
  options?: DataSourceOptions | undefined,
): Promise<DataSourceResult<R>>;

/**
 * {@link queryDataSourceWithCache} as a response of JSON that was never parsed: `X-Cache-Status` (`HIT`, `STALE`,
 * `MISS`, `REFRESH`), `ETag`, `Age`, `Cache-Control: private`, and 304 when `If-None-Match` names this result. (here)
 */
export function queryAsResponse(
  request: { readonly headers: { get(name: string): string | null } },
  params: object,
  userOrganizations: readonly string[] | null | undefined,
  queryFunction: () => Promise<DataSourceQueryResult>,
  options?: DataSourceResponseOptions | undefined,
): Promise<Response>;

/**
 * Makes one result void for every process, a query that runs for it included.
 *
 * @param cacheKey as {@link queryDataSourceWithCache} has returned it.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateDataSourceCache(
  cacheKey: string,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

/**
 * Makes all results of a data source void for every process, in one command whatever their number.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateDataSourceCaches(
  dataSourceId: string | number,
  options?: CallOptions | undefined,
): Promise<InvalidationResult>;

// -----------------------------------------------------------------------------------------------------------
// Layered caches and the dashboard
// -----------------------------------------------------------------------------------------------------------

/** How one tier ended for a call, and how long that took. Measured. */
export interface LayerTiming {
  /** `redis` for the cache, whatever store is configured; else the name of a layer. */
  readonly layer: string;
  /** Milliseconds, to the microsecond. */
  readonly ms: number;
  /**
   * `hit`: it answered. `miss`: it had nothing. `shared`: the cache had nothing, and another call of this thread was
   * asking the layers already. `failed`: the layer threw, or took too long. `unavailable`: the store does not answer,
   * or there is none.
   */
  readonly outcome: 'hit' | 'miss' | 'shared' | 'failed' | 'unavailable';
}

/** Where a value came from, for this very call. (S5) */
export interface LayeredPerformance {
  /** Milliseconds this call took. */
  readonly queryTime: number;
  /** Whether it was in the cache. */
  readonly cacheHit: boolean;
  /** `redis` on a hit; else the name of the layer that answered. */
  readonly cacheLayer: string;
  /** ISO-8601: of when the value is, which on a hit may be long ago. */
  readonly lastUpdated: string;
  /** In the order in which they were asked. (here) */
  readonly tiers: readonly LayerTiming[];
}

/** A value of a layered cache. */
export type Layered<T extends object> = Readonly<Omit<T, 'performance'>> & {
  readonly performance: LayeredPerformance;
  readonly degraded?: undefined;
};

/** What stands in for a value while no layer answers. It is made for this caller and was never stored. */
export type Degraded<T extends object> = Readonly<Omit<T, 'performance'>> & {
  readonly performance: Omit<LayeredPerformance, 'cacheLayer' | 'lastUpdated'> & {
    readonly cacheLayer: 'none';
    readonly lastUpdated: null;
  };
  readonly degraded: true;
  /** The message of the error. */
  readonly degradedReason: string;
};

/** What a layer is asked for. */
export interface LayerRequest {
  /** As the call has given it; `undefined` in a cache that is not `scoped`. */
  readonly scopeKey: string | Scope | undefined;
  /**
   * Ends when the layer's time is over, and with `useCache: false` when the caller's own signal does. A load that others
   * may wait for does not end with one caller.
   */
  readonly signal: AbortSignal;
  /** Says of when the answer is. Left out: of now. */
  setLastUpdated(at: Date | string | number): void;
}

/** One way to get the value, for example a materialized view. */
export interface CacheLayer<T extends object> {
  /** 1 to 64 characters of A-Z, a-z, 0-9 and `_.:-`; not `redis` and not `none`. */
  readonly name: string;
  /**
   * The value; `null` or `undefined` when there is none here. Runs on the calling thread and keeps its
   * `AsyncLocalStorage`.
   */
  load(request: LayerRequest): T | null | undefined | Promise<T | null | undefined>;
  /** Milliseconds after which the next layer is asked, 1 to 600000, default 10000. */
  readonly timeoutMs?: number | undefined;
}

/** See {@link LayeredDefinition}. */
export type Placeholder<T extends object> = (error: BcosCacheError) => T | Promise<T>;

/** What a layered cache is made of. */
export interface LayeredDefinition<T extends object> {
  /** Key of the value in the cache, at most 896 bytes; {@link redisCacheService} sees it under the same key. */
  readonly key: string;
  /** Seconds, above 0 and at most 30 days; a value lives 1 to 5 % less, so that several do not end together. */
  readonly ttl: number;
  /** Asked one after the other until one answers, at most 16: the fastest first. */
  readonly layers: readonly CacheLayer<T>[];
  /** Makes the layers current, for example by refreshing a view; resolves when that is committed. */
  readonly refresh?: (() => unknown) | undefined;
  /**
   * `true`: one value for each `scopeKey`, which every call then needs. Required when the layers answer by who asks, as
   * with row policies: one key in front of them would hand everybody the rows of whoever came first. Default `false`.
   */
  readonly scoped?: boolean | undefined;
  /** Makes what callers get instead of an error while every layer fails. Never stored, by no path. */
  readonly placeholder?: Placeholder<T> | undefined;
}

/** Options of {@link LayeredCache.get}. */
export interface LayeredOptions extends CallOptions {
  /** `false`: asks the layers and leaves the cache alone, for reading and for writing. Default `true`. */
  readonly useCache?: boolean | undefined;
  /** Whose value; required and only allowed in a `scoped` cache. Only its digest is stored. */
  readonly scopeKey?: string | Scope | undefined;
}

/** Options of {@link LayeredCache.warmUp}. */
export type WarmUpOptions = Omit<LayeredOptions, 'useCache'>;

/** What became of a refresh. */
export interface RefreshResult extends InvalidationResult {
  /** Milliseconds the refresh itself took. */
  readonly refreshMs: number;
}

/** What became of a warm-up. */
export interface WarmUpResult {
  /** Whether this call has asked the layers; `false` when the value was there, or another call was asking. */
  readonly loaded: boolean;
  /** Whether the value is in the cache now. */
  readonly stored: boolean;
  /** The layer that the value came from; `none` when none answered. */
  readonly layer: string;
  /** Milliseconds this call took. */
  readonly queryTime: number;
  /** Why there is no value. */
  readonly error?: BcosCacheError | undefined;
}

/** See {@link createLayeredCache}. `A` is what {@link get} answers. */
export interface LayeredCache<T extends object, A = Layered<T>> {
  /**
   * The stored value, else that of the first layer that answers, stored. One round trip on a hit. Over all processes
   * that share the store the layers are asked once at a time; the others wait (and ask for themselves when it takes
   * longer than `cacheLeaseMs`). More than 1 MiB of JSON is returned and not stored.
   *
   * @throws the class and code of the last layer's error, or {@link SourceUnavailableError} when that is none of this
   * package's; `cause` is an `AggregateError` of what each layer said, in their order. {@link NotFoundError} when the
   * last layer had nothing. {@link ScopeError} `E_SCOPE` without a `scopeKey` where one is needed.
   */
  get(options?: LayeredOptions | undefined): Promise<A>;
  /**
   * Runs `refresh` of the definition, then makes the values of all scopes void. What was committed before this was
   * called is in every value that is answered after it resolved as acknowledged, in every process. Calls that are made
   * before a refresh begins share it; those made meanwhile share the next one.
   *
   * @throws what `refresh` throws; nothing is void then.
   */
  refresh(options?: CallOptions | undefined): Promise<RefreshResult>;
  /** Makes sure that the value is stored: loads it unless it is there. Failing layers are told, not thrown. */
  warmUp(options?: WarmUpOptions | undefined): Promise<WarmUpResult>;
  /**
   * Makes the value void for every process, loads under way included; in a `scoped` cache that of one scope or, without
   * one, those of all, in one command whatever their number.
   *
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued.
   */
  invalidate(
    scopeKey?: string | Scope | undefined,
    options?: CallOptions | undefined,
  ): Promise<InvalidationResult>;
}

/**
 * A cache in front of several ways to get the same value: a materialized view, then the queries behind it.
 *
 * ```ts
 * const overview = createLayeredCache<Overview>({
 *   key: 'overview',
 *   ttl: 60,
 *   scoped: true, // rows depend on who asks
 *   layers: [
 *     { name: 'materialized_view', load: ({ scopeKey }) => readView(scopeKey) }, // null when it has no row
 *     { name: 'database', load: ({ scopeKey, signal }) => runQueries(scopeKey, signal) },
 *   ],
 *   refresh: () => db.execute(sql`REFRESH MATERIALIZED VIEW CONCURRENTLY overview`),
 * });
 * const { performance, ...figures } = await overview.get({ scopeKey: scopeOf(context) });
 * ```
 *
 * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT`, at once, for a definition that is not accepted. (S5)
 */
export function createLayeredCache<T extends object>(
  definition: LayeredDefinition<T> & { readonly placeholder: Placeholder<T> },
): LayeredCache<T, Layered<T> | Degraded<T>>;
export function createLayeredCache<T extends object>(definition: LayeredDefinition<T>): LayeredCache<T>;

/** Metrics of a dashboard: one object for each group of the option `dashboard`, `null` when its query has no row. */
export interface DashboardMetrics {
  readonly [group: string]: unknown;
}

/** Options of the functions about the dashboard. */
export interface DashboardOptions extends CallOptions {
  /** Whose dashboard; required and only allowed with `scopeColumn`. */
  readonly scopeKey?: string | undefined;
}

/**
 * The metrics of the dashboard that the option `dashboard` describes: from the cache, else from the materialized view
 * (`materialized_view`), else from its queries (`database`), which are one statement and one snapshot. See {@link
 * LayeredCache.get}.
 *
 * ```ts
 * const { performance, ...metrics } = await getDashboardMetrics();
 * ```
 *
 * @param useCache `false`: asks view and queries and leaves the cache alone. Default `true`.
 * @typeParam T what the groups are; it is not checked.
 * @throws {ConfigError} `E_CONFIG` without that option, and when the last that was asked does not fit the database. (S5)
 */
export function getDashboardMetrics<T extends object = DashboardMetrics>(
  useCache?: boolean | undefined,
  options?: DashboardOptions | undefined,
): Promise<Layered<T>>;

/**
 * Refreshes the view while others go on reading it (`REFRESH MATERIALIZED VIEW CONCURRENTLY`), then voids the cache: what
 * was committed before is in every answer that begins after it resolved as acknowledged. See {@link
 * LayeredCache.refresh}. A view that was never populated is populated.
 *
 * @throws {ConfigError} `E_CONFIG` without a dashboard, without the view, without a unique index on it (the message says
 * how to create one), or without the right to refresh it.
 * @throws {DeadlineError} `E_DEADLINE` after `refreshTimeoutMs`.
 * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE` when the database cannot be reached. (S5)
 */
export function refreshDashboardMetrics(options?: CallOptions | undefined): Promise<RefreshResult>;

/**
 * Makes sure that the metrics are in the cache. See {@link LayeredCache.warmUp}.
 *
 * @throws {ConfigError} `E_CONFIG` without a dashboard. (S5)
 */
export function warmUpDashboardCache(options?: DashboardOptions | undefined): Promise<WarmUpResult>;

/** How the cache and the view of the dashboard are. (S5) */
export interface CacheHealth {
  /** `healthy`: both are; `degraded`: one of them is; `down`: neither. */
  readonly overall: 'healthy' | 'degraded' | 'down';
  readonly redis: {
    readonly healthy: boolean;
    readonly connected: boolean;
    readonly keyCount: number;
    readonly memory: string;
  };
  readonly materializedView: {
    /** It exists, is populated, not older than `maxAgeSeconds`, and has the unique index that a refresh needs. */
    readonly healthy: boolean;
    /** ISO-8601; missing when nobody can tell. */
    readonly lastRefreshed?: string | undefined;
    /** By the clock of the database; missing when nobody can tell, which is not healthy. */
    readonly ageSeconds?: number | undefined;
    /** What is wrong with it. */
    readonly error?: string | undefined;
  };
  /** ISO-8601. */
  readonly timestamp: string;
  /** What to do, in whole sentences. */
  readonly recommendation: string;
}

/**
 * How the two layers of the dashboard are, asked just now.
 *
 * @throws {ConfigError} `E_CONFIG` without a dashboard. (S5)
 */
export function getCacheHealth(): Promise<CacheHealth>;

/**
 * Makes the cached metrics void for every process; with `scopeColumn` those of one scope or, without a `scopeKey`, of
 * all. The view stays as it is.
 *
 * @throws {ConfigError} `E_CONFIG` without a dashboard.
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S5)
 */
export function invalidateDashboardCache(options?: DashboardOptions | undefined): Promise<InvalidationResult>;

// -----------------------------------------------------------------------------------------------------------
// Values of the application
// -----------------------------------------------------------------------------------------------------------

/**
 * Values of your own under keys of your own: `cache:{key}` in the store. The service that S5 describes, with its names
 * and miss values. A value is anything JSON carries except `null`, which could not be told from a miss; it comes back
 * frozen and in the form JSON gives it, the first time and later alike.
 *
 * A read that cannot be answered is a miss. A removal that cannot be carried out is an error, because a purge that
 * removes nothing must not look like one that worked.
 *
 * ```ts
 * const sources = await redisCacheService.getOrSet('data-sources', () => db.select().from(dataSources), 300);
 * await redisCacheService.del('data-sources'); // after the commit of a change
 *
 * await redisCacheService.setWithTags(`pilots:${page}`, list, 300, ['pilots']);
 * await redisCacheService.invalidateByTag('pilots'); // how many there were
 * ```
 */
export interface RedisCacheService {
  /**
   * @returns `null` when nothing is stored or the store cannot be asked. `T` is not checked. (S5)
   */
  get<T = unknown>(key: string, options?: CallOptions | undefined): Promise<T | null>;
  /**
   * Several values in one round trip, in the order of `keys`. (S5)
   */
  mget<T = unknown>(keys: readonly string[], options?: CallOptions | undefined): Promise<(T | null)[]>;
  /**
   * Stores a value for `ttlSeconds` (above 0, at most 30 days), over whatever is there. Loads of {@link getOrSet}
   * that began before do not replace it.
   *
   * @returns whether it is stored now: `false` without a store, while it cannot be reached, and for more than 1 MiB
   * of JSON. The old value is void in every case.
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither stored nor queued. (S5)
   */
  set(key: string, value: unknown, ttlSeconds: number, options?: CallOptions | undefined): Promise<boolean>;
  /**
   * Several of them in one round trip. Nothing is stored when one of the arguments is not accepted.
   *
   * @returns whether all of them are stored now. (S5)
   */
  mset(
    entries: readonly (readonly [key: string, value: unknown, ttlSeconds: number])[],
    options?: CallOptions | undefined,
  ): Promise<boolean>;
  /**
   * As {@link set}, and {@link invalidateByTag} finds it by each of its 1 to 64 `tags`. A value that could not be put
   * under all of them is not stored. A tag forgets a key when the value's time is over.
   *
   * @returns whether it is stored now. (S5)
   */
  setWithTags(
    key: string,
    value: unknown,
    ttlSeconds: number,
    tags: readonly string[],
    options?: CallOptions | undefined,
  ): Promise<boolean>;
  /**
   * Makes a value void for every process: nothing computed before it resolved as acknowledged is stored or given
   * afterwards.
   *
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S5)
   */
  del(key: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
  /**
   * Makes every value void whose key fits: `*` is any text, `?` one character, `[a-z]` and `[^a]` one of them, a
   * backslash takes the next character literally. Goes through all keys of the server by SCAN, so it is for the rare
   * work of an administrator; a tag costs only what is under it.
   *
   * @param options `deadlineMs` is 10 minutes unless it is given.
   * @returns how many values were removed.
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when not all of the keys could be looked at: call it again. (S5)
   */
  delPattern(pattern: string, options?: CallOptions | undefined): Promise<number>;
  /**
   * Makes every value void that was stored under a tag by {@link setWithTags}.
   *
   * @returns how many values were removed.
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when that is not certain for all of them: call it again. (S5)
   */
  invalidateByTag(tag: string, options?: CallOptions | undefined): Promise<number>;
  /**
   * Makes everything void that is a copy of something else: values, results of data sources, users, payloads, contexts
   * and their parts. Keeps what is not: revoked tokens, rate limits, holds, and every key of other applications on the
   * same server.
   *
   * @returns how many entries were removed.
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when not all of the keys could be looked at: call it again. (S5)
   */
  flushAll(options?: CallOptions | undefined): Promise<number>;
  /** Whether a value is stored; `false` when the store cannot be asked. (S5) */
  exists(key: string, options?: CallOptions | undefined): Promise<boolean>;
  /**
   * @returns the seconds a value lives yet, rounded up; -2 when there is none, -1 when the store cannot be asked. (S5)
   */
  ttl(key: string, options?: CallOptions | undefined): Promise<number>;
  /**
   * Lets a stored value end `ttlSeconds` from now. 0 is refused: {@link del} deletes.
   *
   * @returns whether there was one and the store has it. (S5)
   */
  expire(key: string, ttlSeconds: number, options?: CallOptions | undefined): Promise<boolean>;
  /**
   * Adds to a whole number, in one atomic step. A number that begins here lives for `ttlSeconds` from then on, whatever
   * is added later: its end is set with its beginning, so it can neither stay for ever nor end earlier than told.
   *
   * @param delta a whole number, 1 unless it is given
   * @param options `ttlSeconds` is one day unless it is given
   * @returns the sum, at most 2^53 - 1; 0 when the store cannot be asked. Never repeated: when the reply of the store
   * is lost, whether it was added is not known.
   * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` with field `key` when the value is not a whole number. (S5)
   */
  incr(key: string, delta?: number | undefined, options?: CounterOptions | undefined): Promise<number>;
  /** The same with the opposite sign. (S5) */
  decr(key: string, delta?: number | undefined, options?: CounterOptions | undefined): Promise<number>;
  /**
   * What the server says of itself. `keyCount` counts all keys of the server's database, those of other applications
   * included; `memory` is for people (`"12.3 MB"`), `"N/A"` when the server does not say. (S5)
   */
  info(options?: CallOptions | undefined): Promise<StoreInfo>;
  /** What this process did since it started or since {@link resetMetrics}. (S5) */
  getMetrics(): CacheServiceMetrics;
  /** Begins the counts of {@link getMetrics} anew. (S5) */
  resetMetrics(): void;
  /**
   * The stored value, else what `compute` returns, stored for `ttlSeconds` less 1 to 5 %: values that were computed
   * together do not end together.
   *
   * @param compute runs on the calling thread and keeps its `AsyncLocalStorage`; at most once at a time per key,
   * over all processes that share the store (one that takes longer than `cacheFlightWaitMs` may be joined by
   * others, which then compute for themselves). What it throws reaches every waiting caller unchanged, is not
   * cached and not retried. More than 1 MiB of JSON is returned and not stored. (S5)
   */
  getOrSet<T>(
    key: string,
    compute: () => T | Promise<T>,
    ttlSeconds: number,
    options?: CallOptions | undefined,
  ): Promise<T>;
}

/** Options of a counter. */
export interface CounterOptions extends CallOptions {
  /** How long a number lives that begins with this call: above 0, at most 30 days. Default: one day. */
  readonly ttlSeconds?: number | undefined;
}

/** What the server says of itself. (S5) */
export interface StoreInfo {
  /** Whether it answered. */
  readonly connected: boolean;
  /** All keys of its database, those of other applications included; 0 when it does not say. */
  readonly keyCount: number;
  /** As people read it: `"12.3 MB"`, or `"N/A"`. */
  readonly memory: string;
}

/** What this process did with values of the application. (S5) */
export interface CacheServiceMetrics {
  /** Reads answered by a stored value. */
  readonly hits: number;
  /** Reads without one. */
  readonly misses: number;
  /** Values stored, counters included. */
  readonly sets: number;
  /** Deletions asked for by key, and values removed by tag, pattern or flush. */
  readonly deletes: number;
  /** Calls that the store did not answer. */
  readonly errors: number;
  /** Since when. */
  readonly lastReset: Date;
  /** Hits of reads, in whole percent; 0 when nothing was read. */
  readonly hitRate: number;
  /** Reads, sets and deletes. */
  readonly totalOperations: number;
}

/** S1's client functions: the same service. `null` is a miss. */
export function redisGet<T = unknown>(key: string, options?: CallOptions | undefined): Promise<T | null>;
/** See {@link RedisCacheService.set}. `ttl` in seconds. (S1) */
export function redisSet(
  key: string,
  value: unknown,
  ttl: number,
  options?: CallOptions | undefined,
): Promise<boolean>;
/** See {@link RedisCacheService.del}. (S1) */
export function redisDel(key: string, options?: CallOptions | undefined): Promise<InvalidationResult>;

/** Keys of the application that S5 describes. */
export declare const CACHE_KEYS: {
  readonly FLEET_STATS: 'fleet:stats';
  readonly PILOT_COUNT: 'fleet:pilots:count';
  readonly CAPTAIN_COUNT: 'fleet:captains:count';
  readonly FO_COUNT: 'fleet:first_officers:count';
  readonly TRAINING_CAPTAINS: 'fleet:training_captains:count';
  readonly EXAMINERS: 'fleet:examiners:count';
  readonly COMPLIANCE_RATE: 'fleet:compliance:rate';
  readonly CERT_STATS: 'fleet:certifications:stats';
  readonly EXPIRING_CERTS: 'fleet:certifications:expiring';
  readonly EXPIRED_CERTS: 'fleet:certifications:expired';
  readonly RETIREMENT_FORECAST: 'fleet:retirement:forecast';
  readonly NEARING_RETIREMENT: 'fleet:retirement:nearing';
  readonly RETIREMENT_DUE_SOON: 'fleet:retirement:due_soon';
  readonly CHECK_TYPES: 'ref:check_types';
  readonly CONTRACT_TYPES: 'ref:contract_types';
  readonly SETTINGS: 'ref:settings';
  readonly DASHBOARD_METRICS: 'dashboard:metrics:v3';
  readonly LEAVE_STATS: 'fleet:leave:stats';
  readonly LEAVE_PENDING: 'fleet:leave:pending';
  readonly LEAVE_APPROVED: 'fleet:leave:approved';
};

/** Lifetimes of that application, in seconds. (S5) */
export declare const CACHE_TTL: {
  readonly DASHBOARD: 60;
  readonly FLEET_STATS: 300;
  readonly REFERENCE_DATA: 7200;
  readonly LEAVE_STATS: 120;
  readonly RETIREMENT_FORECAST: 600;
};

/** The service of the default engine. (S5) */
export declare const redisCacheService: RedisCacheService;

// -----------------------------------------------------------------------------------------------------------
// Analytics
// -----------------------------------------------------------------------------------------------------------

/**
 * A value of a row.
 *
 * | column | value |
 * | --- | --- |
 * | int, float | number |
 * | bigint | number; beyond 2^53 - 1 its digits as text |
 * | numeric | the nearest number; with `numeric: 'string'` the text that Postgres shows, exactly |
 * | text, uuid | text |
 * | bool | boolean |
 * | date | `YYYY-MM-DD`; `infinity`, `-infinity` |
 * | timestamp, timestamptz | `YYYY-MM-DDTHH:MM:SS.mmmZ`, in UTC, cut to the millisecond; one without a zone as if it were UTC |
 * | json | what it says; frozen, and shared by the rows that have the same |
 *
 * NULL is `null` everywhere. A type that is not listed is its text. In {@link AnalyticsCacheV2.queryJson} a float that is
 * not a number or infinite is `null`, since JSON has none, and an exact number keeps all its digits.
 */
export type AnalyticsValue =
  | string
  | number
  | boolean
  | null
  | readonly AnalyticsValue[]
  | { readonly [name: string]: AnalyticsValue };

/** A row, with the names of the table (snake_case). An ordinary object, yours to change. (S2) */
export interface CacheEntry {
  [column: string]: AnalyticsValue;
}

/**
 * How a condition compares, with the meaning it has in SQL: `in` is `= ANY` (of an empty list, nothing), `not_in` is `<> ALL` (of
 * an empty list, everything), `between` includes both ends, `like` knows `%`, `_` and `\` as escape. Texts compare by their
 * bytes (`COLLATE "C"`), numbers by value, and **no comparison with NULL is true**: `neq` does not find a NULL either. (S2)
 */
export type AnalyticsOperator =
  | 'eq'
  | 'neq'
  | 'gt'
  | 'gte'
  | 'lt'
  | 'lte'
  | 'in'
  | 'not_in'
  | 'like'
  | 'between';

/** One value of a condition. A `Date` is its moment, for a date column its day in UTC. Exact numbers may be text or bigint. */
export type AnalyticsOperand = string | number | bigint | boolean | Date | null;

/**
 * A condition on any column of the table except json. The value must be one of the column's type: a number is not compared
 * with a text. `in` and `not_in` take a list, `between` one of two. (S2)
 */
export type AdvancedFilter =
  | {
      readonly field: string;
      readonly operator: Exclude<AnalyticsOperator, 'in' | 'not_in' | 'between'>;
      readonly value: AnalyticsOperand;
    }
  | {
      readonly field: string;
      readonly operator: 'in' | 'not_in';
      readonly value: readonly AnalyticsOperand[];
    }
  | {
      readonly field: string;
      readonly operator: 'between';
      readonly value: readonly [AnalyticsOperand, AnalyticsOperand];
    };

/**
 * Which rows. Everything that is given must be true of a row. What is left out does not filter; **an empty list has no
 * rows**. An unknown property, column or operator is refused: ignoring a misspelt filter would show more than was meant. (S2)
 */
export interface AnalyticsFilters {
  /** `chart_data_sources.data_source_id`. */
  readonly datasourceId: number;
  /** Only this measure. */
  readonly measure?: string | undefined;
  /** Only this frequency (`frequency`, `time_period`: the column flagged `is_time_period`). */
  readonly frequency?: string | undefined;
  /** Only these practices: at most 100,000 whole numbers. `[]`: no rows. A NULL is in no list. */
  readonly practiceUids?: readonly (number | bigint)[] | undefined;
  /** Only these providers, likewise. */
  readonly providerUids?: readonly (number | bigint)[] | undefined;
  /**
   * The first day, as `YYYY-MM-DD` or a `Date` (its day in UTC), of the column flagged `is_date_field`; for timestamps it may be
   * a moment. Rows without a date are not among them.
   */
  readonly startDate?: string | Date | undefined;
  /** The last day, included. Of timestamps all of it, when it is given as `YYYY-MM-DD`. */
  readonly endDate?: string | Date | undefined;
  /** At most 64, all of which must be true; at most 100,000 values in all. */
  readonly advancedFilters?: readonly AdvancedFilter[] | undefined;
  /**
   * What the caller may see: `scopeOf(context)`. Filters only make it smaller. **Left out, everything is shown**, so whoever
   * answers a user passes it, or calls {@link AnalyticsCacheV2.queryForContext}. Given as `undefined` it is refused with
   * `E_SCOPE`, and so is anything that `scopeOf` has not made.
   */
  readonly scope?: Scope;
}

/** Which rows, and which of their columns. (S2) */
export interface CacheQueryFilters extends AnalyticsFilters {
  /** In this order; default all, in the order of the table. */
  readonly columns?: readonly string[] | undefined;
}

/** What `date_trunc` cuts to, in UTC. A week begins on Monday. */
export type AnalyticsUnit = 'day' | 'week' | 'month' | 'quarter' | 'year';

/** `count` without a column counts rows. `sum` and `avg` are for numbers, `min` and `max` not for boolean, uuid and json. */
export type AnalyticsFunction = 'count' | 'distinct' | 'sum' | 'avg' | 'min' | 'max';

/** One result of an aggregate. Exact columns are summed exactly, and averaged to the digits that Postgres gives. (here) */
export interface AnalyticsMetric {
  readonly function: AnalyticsFunction;
  /** May be left out only for `count`. */
  readonly column?: string | undefined;
  /** Its name in the answer; default `sum_measure_value`, and `count` without a column. */
  readonly as?: string | undefined;
}

/** Which rows, in which groups, and what of each. (here) */
export interface AggregateQuestion extends AnalyticsFilters {
  /**
   * Columns, dates perhaps cut to a unit. Rows of the answer are ordered by them, NULL last and a group of its own. Left out
   * or empty: one group of all rows, also when there are none.
   */
  readonly groupBy?:
    | readonly (string | { readonly column: string; readonly unit?: AnalyticsUnit | undefined })[]
    | undefined;
  /** At most 64; `[]` asks for the groups alone. All names of an answer must differ. */
  readonly metrics: readonly AnalyticsMetric[];
  /** Cuts the dates and timestamps of `groupBy` that have no unit of their own. */
  readonly dateTrunc?: AnalyticsUnit | undefined;
}

/** A group: the columns it was made by, then the metrics. `count`, `distinct` and sums of int are bigint, see there. */
export type AggregateRow = CacheEntry;

/** Options of a question. */
export interface AnalyticsOptions extends CallOptions {
  /**
   * `string`: exact numbers as the text that Postgres shows, `"12.50"`. Default `number`: the nearest one.
   */
  readonly numeric?: 'number' | 'string' | undefined;
}

/** Options of {@link AnalyticsCacheV2.queryForContext}. */
export interface AnalyticsContextOptions extends AnalyticsOptions {
  /** As of {@link scopeOf}; default `analytics:read`. */
  readonly permission?: string | undefined;
}

/** Options of {@link AnalyticsCacheV2.fetch}. */
export interface FetchOptions extends AnalyticsOptions {
  /**
   * Who answers when the cache cannot. Default `source`. `none`: then it is `E_CONFLICT`, with the reason in `reason`.
   */
  readonly fallback?: 'source' | 'none' | undefined;
}

/**
 * Why the source has answered.
 *
 * | reason | meaning |
 * | --- | --- |
 * | `cold` | nothing was warmed, or it has ended |
 * | `held` | the only generation waits for approval |
 * | `quarantined` | a generation held rows it should not, and is out of service until the next warm |
 * | `hole` | a part of it is missing or unreadable in the store |
 * | `older` | the store has an older generation than one that was served before |
 * | `store_unavailable` | the store does not answer |
 * | `beyond` | exact only in the database: a sum of more than 38 digits, for example |
 * | `schema` | the table has other columns by now |
 */
export type AnalyticsFallbackReason =
  | 'cold'
  | 'held'
  | 'quarantined'
  | 'hole'
  | 'older'
  | 'store_unavailable'
  | 'beyond'
  | 'schema';

/** Where an answer came from. */
export interface AnalyticsFacts {
  /** `false`: the source has answered. */
  readonly cacheHit: boolean;
  /** `near`: from the memory of this process. `store`: something of it had to be fetched from the store. */
  readonly layer: 'near' | 'store' | 'source';
  /** All rows are of this one. 0: of the source, or nobody was asked because nothing may be seen. */
  readonly generation: number;
  /** Milliseconds until the answer was complete in this process, waiting included. */
  readonly queryTimeMs: number;
  /** Why the source was asked. */
  readonly reason?: AnalyticsFallbackReason | undefined;
}

/** Rows, and where they came from. (S2) */
export interface AnalyticsAnswer extends AnalyticsFacts {
  readonly rows: CacheEntry[];
}

interface AnalyticsColumnBase {
  /** One bit per row, 1 = NULL: `(nulls[row >> 3] >> (row & 7)) & 1`. `null`: none is. */
  readonly nulls: Uint8Array | null;
  /** The value as a row has it; `undefined` beyond the rows. */
  at(row: number): AnalyticsValue | undefined;
}

/**
 * A column of an answer. What stands in the place of a NULL means nothing, except for codes.
 *
 * - `numbers`: timestamps are Unix milliseconds, infinite ones too.
 * - `bigints`: a bigint column of which some value is beyond 2^53 - 1.
 * - `booleans`: 0 and 1.
 * - `codes`: places in `dictionary`, which ascends by bytes (dates by time) and holds what is used; that of a NULL is
 *   `dictionary.length`. It is made when it is first read.
 * - `texts`: exact numbers with `numeric: 'string'`, and timestamps of which one is beyond the year 287,396; `''` for a NULL.
 */
export type AnalyticsColumn = AnalyticsColumnBase &
  (
    | {
        readonly kind: 'numbers';
        readonly type: 'int' | 'bigint' | 'float' | 'numeric' | 'timestamp' | 'timestamptz';
        readonly values: Int32Array | Float64Array;
      }
    | { readonly kind: 'bigints'; readonly type: 'bigint'; readonly values: BigInt64Array }
    | { readonly kind: 'booleans'; readonly type: 'bool'; readonly values: Uint8Array }
    | {
        readonly kind: 'codes';
        readonly type: 'text' | 'uuid' | 'date' | 'json';
        readonly codes: Uint8Array | Uint16Array | Uint32Array;
        readonly dictionary: readonly string[];
      }
    | {
        readonly kind: 'texts';
        readonly type: 'numeric' | 'timestamp' | 'timestamptz';
        readonly values: readonly string[];
      }
  );

/** Columns of some rows: typed arrays over the bytes of the answer, which are not copied. (here) */
export interface AnalyticsColumns extends AnalyticsFacts {
  readonly rowCount: number;
  /** In the order they were asked for. */
  readonly names: readonly string[];
  /** By name. Without a prototype, so that a column may have any. */
  readonly columns: { readonly [name: string]: AnalyticsColumn };
}

/** How far a warm is. */
export interface WarmProgress {
  readonly stage: 'waiting' | 'exporting' | 'building' | 'writing' | 'verifying' | 'publishing';
  /** Rows read. */
  readonly rows: number;
  /** Rows there are: at first an estimate of the database. */
  readonly totalRows: number;
  /** 0 to 100, never going back. */
  readonly percent: number;
  /** `null` while it cannot be told. */
  readonly etaSeconds: number | null;
  readonly framesWritten: number;
  readonly framesReused: number;
}

/** Options of {@link AnalyticsCacheV2.warmCache}. */
export interface WarmOptions {
  /** Warms although it was done lately. Default `false`. */
  readonly force?: boolean | undefined;
  /** Called now and then; what it throws is ignored. */
  readonly onProgress?: ((progress: WarmProgress) => void) | undefined;
  /** Ends it; nothing of it is published, and the promise rejects with `signal.reason`. */
  readonly signal?: AbortSignal | undefined;
}

/** What a warm has done. The first three are those of S2; of a skipped one they are of the generation that is served. */
export interface WarmResult {
  /** Combinations of practice, provider, measure and frequency. */
  readonly entriesCached: number;
  readonly totalRows: number;
  /** Milliseconds. */
  readonly duration: number;
  /** Nothing was done, see `reason`. */
  readonly skipped?: true | undefined;
  /** Of a skipped one. `running`: somebody else does it, see `holder`. `recent`: it was done just now. */
  readonly reason?: 'running' | 'recent' | undefined;
  /** Who warms. `since` is an ISO-8601 time. */
  readonly holder?: { readonly instance: string; readonly pid: number; readonly since: string } | undefined;
  /**
   * Why the new generation is not served but waits for {@link AnalyticsCacheV2.approve} or {@link AnalyticsCacheV2.discard}:
   * far fewer rows, a measure or frequency that is gone, a newest date that went back. What differs from SQL is an error.
   */
  readonly held?: readonly string[] | undefined;
  /** The table has other columns than the generation before. */
  readonly schemaChanged?: true | undefined;
  /** The one that is served now; 0 = none. */
  readonly generation: number;
  readonly framesWritten: number;
  /** Frames whose rows are as they were: not written again. */
  readonly framesReused: number;
  readonly bytesWritten: number;
  /** The snapshot of the database that it shows. */
  readonly snapshot?: string | undefined;
}

/** Which generation is served. */
export interface AnalyticsPublication {
  readonly generation: number;
  readonly entriesCached: number;
  readonly totalRows: number;
  /** ISO-8601. */
  readonly warmedAt: string;
}

/** What was given up. */
export interface AnalyticsDiscard {
  readonly discarded: true;
  readonly totalRows: number;
}

/** What an invalidation has removed. `keysDeleted` and the two after it are those of S4. */
export interface AnalyticsInvalidation extends InvalidationResult {
  /** Frames. */
  readonly keysDeleted: number;
  /** Manifests. */
  readonly indexesDeleted: number;
  readonly memoryFreedMB: number;
}

/**
 * Statistics of one data source. What is stored is told by the live pointer, nothing is scanned; what was asked is counted
 * by this process since its start. What is not known is `null`, never zero. The first seven are those of S2.
 */
export interface CacheStats {
  readonly datasourceId: number;
  /** Combinations of practice, provider, measure and frequency. */
  readonly totalEntries: number;
  /** One manifest is the index of a generation. */
  readonly indexCount: number;
  /** Frames and manifests in the store, those of the previous generation included. */
  readonly estimatedMemoryMB: number;
  /** ISO-8601; `null`: never, or not any more. */
  readonly lastWarmed: string | null;
  /** A generation is served. */
  readonly isWarm: boolean;
  readonly version: 'v2';
  /** `null` where only the id is known. */
  readonly datasourceName: string | null;
  /** `held`: the only generation waits for approval. `unknown`: the store does not answer. */
  readonly state: 'live' | 'cold' | 'held' | 'quarantined' | 'unknown';
  readonly ageSeconds: number | null;
  readonly generation: number | null;
  /** What {@link AnalyticsCacheV2.rollback} would serve. */
  readonly previousGeneration: number | null;
  /** A generation that waits for approval, and why. */
  readonly held: { readonly rows: number; readonly because: readonly string[] } | null;
  readonly rows: number;
  readonly frames: number;
  /** Bytes of the frames in the store. */
  readonly dataBytes: number;
  /** Bytes of the manifest in the store. */
  readonly indexBytes: number;
  /** Bytes of frames and manifests of all data sources in the memory of this process. */
  readonly nearBytes: number;
  readonly uniqueMeasures: number;
  readonly uniquePractices: number;
  readonly uniqueProviders: number;
  /** At most 64. */
  readonly uniqueFrequencies: readonly string[];
  readonly warmDurationMs: number | null;
  /** Questions that this process has answered. Those of a scope that sees nothing are not among them. */
  readonly queries: number;
  readonly nearHits: number;
  readonly storeHits: number;
  readonly sourceReads: number;
  /** Why the source was asked, and how often. */
  readonly sourceReasons: { readonly [Reason in AnalyticsFallbackReason]?: number | undefined };
  /** 0 to 1; `null` before the first question. */
  readonly hitRate: number | null;
  readonly avgMs: number | null;
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

/** (S4) */
export type DatasourceCacheHealth = 'excellent' | 'good' | 'degraded' | 'stale' | 'cold';

/** What {@link calculateCacheHealth} looks at. */
export interface CacheHealthInput {
  /** `null`, `Infinity` and `NaN` count as too old. */
  readonly ageMinutes: number | null;
  /** Percent, 0 to 100; `null` scores nothing. */
  readonly cacheHitRate: number | null;
  readonly uniqueMeasures: number;
  readonly uniquePractices: number;
}

/** One data source as an administrator reads it. `null` = not known: cold, or nobody has asked yet. (S4) */
export interface DatasourceCacheMetrics extends CacheHealthInput {
  readonly datasourceId: number;
  readonly datasourceName: string;
  readonly isWarm: boolean;
  /** ISO-8601. */
  readonly lastWarmed: string | null;
  readonly totalEntries: number;
  readonly indexCount: number;
  readonly estimatedMemoryMB: number;
  readonly uniqueProviders: number;
  readonly uniqueFrequencies: string[];
  /** Of this process. */
  readonly avgQueryTimeMs: number | null;
  /** Of this process. */
  readonly totalQueries: number;
  readonly health: DatasourceCacheHealth;
  readonly warnings: string[];
}

/** All data sources in sum. (S4) */
export interface AnalyticsCacheSummary {
  readonly totalDatasources: number;
  readonly warmDatasources: number;
  readonly coldDatasources: number;
  readonly totalCacheEntries: number;
  readonly totalIndexes: number;
  readonly totalMemoryMB: number;
  /** Percent, over all questions of this process; `null` before the first. */
  readonly overallCacheHitRate: number | null;
}

/** `GET /stats` of S4. */
export interface AnalyticsCacheStats {
  readonly summary: AnalyticsCacheSummary;
  readonly datasources: DatasourceCacheMetrics[];
}

/** `GET /health` of S4. */
export interface AnalyticsCacheHealth {
  readonly overall: 'excellent' | 'good' | 'degraded' | 'critical';
  readonly issues: {
    readonly datasourceId: number;
    readonly datasourceName: string;
    readonly severity: 'warning' | 'error';
    readonly issue: string;
    readonly recommendation: string;
  }[];
  readonly recommendations: string[];
}

/**
 * Tables of measures, answered from memory: a *data source* is warmed as a whole into immutable *frames* in the store, and every
 * question about it is answered in Rust, filters and scopes included.
 *
 * ```ts
 * const analytics = new AnalyticsCacheV2();
 * await analytics.warmCache(1);
 * const rows = await analytics.queryForContext(context, { datasourceId: 1, measure: 'Charges', frequency: 'Monthly' });
 * const byMonth = await analytics.aggregate({
 *   datasourceId: 1, measure: 'Charges', scope: scopeOf(context),
 *   groupBy: ['date_index'], dateTrunc: 'month', metrics: [{ function: 'sum', column: 'measure_value' }],
 * });
 * ```
 *
 * - **The same answer with and without the cache.** Cold, held, damaged or out of reach, the source is asked the same question:
 *   same rows, same order, same types. {@link AnalyticsCacheV2.fetch} tells.
 * - **One generation per call**, of {@link AnalyticsCacheV2.batchQuery} one for all its questions, however many warms end
 *   meanwhile. A part of an answer is never from elsewhere.
 * - **A scope comes first**: it is applied before a frame is read, and every row is looked at again before it leaves.
 * - **Order**: by date, practice, provider, then measure, frequency and all other columns; ascending, NULL last.
 * - Every method rejects with `E_INVALID_ARGUMENT` for a question that is not understood, its `field` naming the place
 *   (`advancedFilters[0].operator`), with `E_SCOPE` for a scope that `scopeOf` has not made, with `E_NOT_FOUND` for a data
 *   source that does not exist or is not active, and, when the source has to answer and cannot, with `E_SOURCE_UNAVAILABLE`.
 */
export class AnalyticsCacheV2 {
  /**
   * @param engine whose store and source; default {@link getEngine}, which is not made before it is needed.
   * @throws {InvalidArgumentError} `E_INVALID_ARGUMENT` for what {@link createEngine} has not made.
   */
  constructor(engine?: Engine | undefined);

  /**
   * Reads the whole table in one snapshot and makes it the next generation. Readers notice nothing until it is complete; then
   * all of it is served at once, and the one of before is kept for {@link AnalyticsCacheV2.rollback}. What has not changed is
   * not written again.
   *
   * One warm of a data source at a time over all processes: a second caller, in this process or another, resolves with
   * `skipped: true` and who is at it. A generation that does not look right is `held` and not served.
   *
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` without a store, or when it does not answer or takes no writes.
   * @throws {SourceUnavailableError} `E_SOURCE_UNAVAILABLE` when the export fails.
   * @throws {NotFoundError} `E_NOT_FOUND` for a data source that is not described.
   * @throws {ConflictError} `E_CONFLICT` with reason `superseded`, when another warm began or the data source was invalidated.
   * @throws {OverloadedError} `E_OVERLOADED` when too many data sources wait; with reason `store_memory` when the store has no
   * room, `too_large` when the table does not fit into memory.
   * @throws {BcosCacheError} `E_INTERNAL` when what was built is not what SQL says of the same snapshot; never published. (S2)
   */
  warmCache(datasourceId: number, options?: WarmOptions | undefined): Promise<WarmResult>;
  /** The same as {@link AnalyticsCacheV2.warmCache}, which never stops readers. (S4) */
  warmCacheConcurrent(datasourceId: number, options?: WarmOptions | undefined): Promise<WarmResult>;

  /** Rows as objects. For wide answers the other forms are cheaper. (S2) */
  query(filters: CacheQueryFilters, options?: AnalyticsOptions | undefined): Promise<CacheEntry[]>;
  /**
   * The rows that a caller may see: {@link AnalyticsCacheV2.query} with `scopeOf(context, permission)`.
   * Filters that have a scope of their own are refused: it is not clear which of the two was meant.
   * @throws {ScopeError} `E_SCOPE` for a context that this package has not handed out. (here)
   */
  queryForContext(
    context: UserContext,
    filters: CacheQueryFilters,
    options?: AnalyticsContextOptions | undefined,
  ): Promise<CacheEntry[]>;
  /** Rows as typed arrays: nothing is made per row. (here) */
  queryColumns(filters: CacheQueryFilters, options?: AnalyticsOptions | undefined): Promise<AnalyticsColumns>;
  /** Rows as a JSON array, to be sent as it is: `new Response(buffer)`. (here) */
  queryJson(filters: CacheQueryFilters, options?: AnalyticsOptions | undefined): Promise<Buffer>;
  /** Groups of rows, as `SELECT ... GROUP BY` gives them. (here) */
  aggregate(question: AggregateQuestion, options?: AnalyticsOptions | undefined): Promise<AggregateRow[]>;
  /** Answers to all questions of a dashboard, at most 256, in their order, each from the same generation of its data source. (here) */
  batchQuery(
    filters: readonly CacheQueryFilters[],
    options?: AnalyticsOptions | undefined,
  ): Promise<CacheEntry[][]>;
  /**
   * Rows, and where they came from.
   * @throws {ConflictError} `E_CONFLICT` with `fallback: 'none'`, when the cache cannot answer; `reason` says why. (here)
   */
  fetch(filters: CacheQueryFilters, options?: FetchOptions | undefined): Promise<AnalyticsAnswer>;

  /**
   * Whether a generation is served.
   * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when the store does not answer: that is not "cold". (S2)
   */
  isCacheWarm(datasourceId: number, options?: CallOptions | undefined): Promise<boolean>;
  /** When it was made, ISO-8601; `null` when none is served. Rejects as {@link AnalyticsCacheV2.isCacheWarm} does. (S2) */
  getLastWarmedTime(datasourceId: number, options?: CallOptions | undefined): Promise<string | null>;
  /** (S2) */
  getCacheStats(datasourceId: number, options?: CallOptions | undefined): Promise<CacheStats>;

  /**
   * Takes the data source out of the cache: from then on the source answers, and a warm that is running publishes nothing. When
   * it resolves as `acknowledged` no process serves it any more, and nothing of it is left in the store, or will be
   * shortly when another process was at work. (S2)
   */
  invalidate(datasourceId: number, options?: CallOptions | undefined): Promise<AnalyticsInvalidation>;
  /**
   * Serves the previous generation again, under a new number.
   * @throws {NotFoundError} `E_NOT_FOUND` without one. `E_CONFLICT` when it is not whole in the store any more. (here)
   */
  rollback(datasourceId: number, options?: CallOptions | undefined): Promise<AnalyticsPublication>;
  /**
   * Serves the generation that was held.
   * @throws {NotFoundError} `E_NOT_FOUND` without one. `E_CONFLICT` when it is not whole in the store any more. (here)
   */
  approve(datasourceId: number, options?: CallOptions | undefined): Promise<AnalyticsPublication>;
  /**
   * Gives the generation up that was held.
   * @throws {NotFoundError} `E_NOT_FOUND` without one. (here)
   */
  discard(datasourceId: number, options?: CallOptions | undefined): Promise<AnalyticsDiscard>;
}

/** Statistics of all active data sources, with their health. (S4) */
export function getAnalyticsCacheStats(options?: CallOptions | undefined): Promise<AnalyticsCacheStats>;

/** What is wrong with them, and what to do. (S4) */
export function getAnalyticsCacheHealth(options?: CallOptions | undefined): Promise<AnalyticsCacheHealth>;

/**
 * How well a data source is cached: up to 40 points for its age (under 1, 2, 4, 6, 12 hours: 40, 35, 30, 20, 10), up to 40 for
 * its hit rate (from 95, 90, 80, 70, 50 percent: 40, 35, 30, 20, 10), 10 each when there are measures and practices. From 90
 * `excellent`, 75 `good`, 50 `degraded`, 25 `stale`, else `cold`. *Synchronous*, pure. (S4)
 */
export function calculateCacheHealth(metrics: CacheHealthInput): {
  readonly health: DatasourceCacheHealth;
  readonly score: number;
};

// -----------------------------------------------------------------------------------------------------------
// Warming and fallbacks
// -----------------------------------------------------------------------------------------------------------

/**
 * How much is warmed.
 * - `none`: nothing.
 * - `minimal`: the organizations, and the system roles with their permissions.
 * - `aggressive`: also the contexts of the users who were active last, and the data sources that were given.
 */
export type WarmupLevel = 'none' | 'minimal' | 'aggressive';

/** What is being warmed; `roles` includes the organizations. */
export type WarmupStage = 'roles' | 'users' | 'dataSources';

export interface WarmupProgress {
  readonly stage: WarmupStage;
  readonly done: number;
  readonly total: number;
}

/** One result to have ready: the arguments of {@link queryDataSourceWithCache}. */
export interface WarmupDataSource {
  readonly params: object;
  /** Of the callers it is meant for: a result is shared only by those with the same ones. */
  readonly userOrganizations?: readonly string[] | null | undefined;
  /** Runs unless the result is there already, or another process runs it. */
  readonly queryFunction: () => Promise<DataSourceQueryResult>;
  readonly options?: Pick<DataSourceOptions, 'scopeKey' | 'timeZone'> | undefined;
}

export interface WarmupOptions {
  /** Default: `cacheWarmingLevel`. What a level leaves out is left out also when it is given. */
  readonly level?: WarmupLevel | undefined;
  /** Most recently active users, 0 to 10,000, default 100. */
  readonly users?: number | undefined;
  /**
   * Results to have ready, at most 1,000: only the application can run its queries. Or a function that is given the ids
   * of the data sources this process was asked for, the most used first, and returns them. Those ids are counted since
   * the start of the process and kept nowhere: **after a start the list is empty**, so a function that is called then
   * must know of some by itself.
   */
  readonly dataSources?:
    | readonly WarmupDataSource[]
    | ((
        mostUsed: readonly string[],
      ) => readonly WarmupDataSource[] | PromiseLike<readonly WarmupDataSource[]>)
    | undefined;
  /** Loads and queries at a time, 1 to 1,000, default 8; more than half of `cacheBulkhead` counts as that. */
  readonly concurrency?: number | undefined;
  /** Warms although another process does, or has within the last 30 seconds. Default `false`. */
  readonly force?: boolean | undefined;
  /** Called now and then; what it throws is ignored. */
  readonly onProgress?: ((progress: WarmupProgress) => void) | undefined;
  /** Ends it; it resolves with what was done, `cancelled: true`. */
  readonly signal?: AbortSignal | undefined;
  /** Longest it may take in milliseconds, 1 to 600000, which is also the default; then it ends with `reason: 'deadline'`. */
  readonly deadlineMs?: number | undefined;
}

/** What a warm-up has done. The first five are those of S1. */
export interface WarmupStats {
  readonly rolesWarmed: number;
  /** Contexts that were loaded or found. */
  readonly usersWarmed: number;
  /** Results that were made or found. */
  readonly dataSourcesWarmed: number;
  /** Milliseconds. */
  readonly duration: number;
  /** Items that could not be warmed. They stop nobody. */
  readonly errors: number;
  /** Nothing was done, see `reason`. */
  readonly skipped?: true | undefined;
  /** `signal` has ended it. */
  readonly cancelled?: true | undefined;
  /**
   * Why less was done than was asked for. `level_none`: that was asked for. `no_store`: there is nothing to warm.
   * `another_process`, `recent`: somebody else does it, or has within the last 30 seconds. `store_unavailable`: what is
   * loaded would not be kept. `source_unavailable`: no roles and users could be read. `closed`: the engine was.
   */
  readonly reason?:
    | 'level_none'
    | 'no_store'
    | 'another_process'
    | 'recent'
    | 'store_unavailable'
    | 'source_unavailable'
    | 'cancelled'
    | 'deadline'
    | 'closed'
    | undefined;
}

/**
 * Loads what is going to be asked for before anybody asks, in the background: not in the way of requests, and never on
 * the JavaScript thread except for your own queries.
 *
 * ```ts
 * // instrumentation.ts: not awaited, the application serves meanwhile
 * void warmCache({
 *   level: 'aggressive',
 *   dataSources: () => startPage.map((chart) => ({ ...chart, queryFunction: () => runQuery(chart.params) })),
 * });
 * ```
 *
 * - Which roles and users is one statement: active system roles, and active users by `updated_at`, the newest first.
 *   The rest are ordinary reads, many in one statement; what is in the store already is not loaded.
 * - Never more loads at a time than half of `cacheBulkhead`, and none while others wait for their turn.
 * - **One at a time.** A second call on the same engine gets the figures of the one that runs if that does as much;
 *   otherwise it begins when that has ended. Of several processes that start together one warms and the others are
 *   `skipped`; a process that is killed meanwhile keeps the others from it for at most ten seconds.
 * - Stops at once when the store or the database goes away, and says so in `reason`.
 * - A failed item is counted and nothing else. It rejects only for an argument that is not accepted and after
 *   {@link close}, so it need not be awaited.
 *
 * With `ENABLE_CACHE_WARMING=true` the default engine does this by itself when it is first used, at the level of
 * `CACHE_WARMING_LEVEL`; it knows of no data sources. {@link getHealth} shows how far it is. (S1)
 */
export function warmCache(options?: WarmupOptions | undefined): Promise<WarmupStats>;

/**
 * Counts a read of yours that went past the cache, for {@link FallbackHealth} and {@link FallbackMetrics}, and logs it at
 * level `warn`, once a minute for each pair. *Synchronous*, never throws. The reads of this package count by
 * themselves.
 *
 * @param operation a word: letters and at most four digits, in parts of at most 32 joined by single `_`, `.`, `:` or `-`;
 * cut after 64 characters. Anything else is counted as `other`, so that no address, id or sentence gets into metrics and
 * log records, and so is what comes after 64 different pairs.
 * @param reason likewise. (S1)
 */
export function recordCacheFallback(operation: string, reason: string): void;
