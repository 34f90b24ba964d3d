/**
 * bcos-cache: the public surface. Start here.
 *
 * ```ts
 * import { isTokenBlacklisted, verifyTokenCached, getUserById } from 'bcos-cache';
 *
 * interface Session { jti: string; sub: string }
 *
 * const session = await verifyTokenCached<Session>(token, (text) => verifyWithMyKey(text));
 * if (await isTokenBlacklisted(session.jti)) return new Response(null, { status: 401 });
 * const user = await getUserById(session.sub);
 * if (user === null) return new Response(null, { status: 401 });
 * ```
 *
 * Five words used below:
 * - *source*: Postgres, the truth.
 * - *store*: the cache all processes share (Valkey, or an embedded one inside this process).
 * - *near cache*: the part of the cache inside this process.
 * - *namespace*: one family of entries, for example `token_bl`.
 * - *breaker*: while the store does not answer, the breaker is open and calls go straight to the source.
 *
 * Rules that hold for every function:
 * - **Importing does nothing**: no connection, no timer, no thread. The first call that needs one opens it.
 * - **The truth or an error.** A function that promises an answer gives the right one or rejects with a
 *   {@link BcosCacheError}. It never turns a failure into "allowed", `false`, `null` or `undefined`.
 * - **The store may be missing, down, slow or full.** Answers then come from the source; only speed is lost.
 *   What only the cache can tell (`getCached...`) is then `null`, "unknown".
 * - **Invalidations win.** Once an invalidation resolved as `acknowledged`, no process that shares the store
 *   gives the old answer any more, including one that was loading it meanwhile. Two exceptions, both opt-in
 *   or stated: the near-cache mode `bounded`, and an invalidation that could only be `queued`.
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
/** `E_SCOPE`. */
export class ScopeError extends BcosCacheError {
  constructor(message: string, details?: ErrorDetails | undefined);
  readonly code: 'E_SCOPE';
}
/** `E_NOT_FOUND`. */
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
  /** `DATABASE_POOL_MAX`. Most connections per pool. */
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

  // Analytics and warming
  /** `CACHE_TTL`, seconds, default 14400. Lifetime of analytics entries. (S2) */
  readonly cacheTtl?: number | undefined;
  /** `CACHE_BATCH_SIZE`, rows, default 5000. Rows read per step of a warm. (S2) */
  readonly cacheBatchSize?: number | undefined;
  /** `CACHE_QUERY_TIMEOUT`, milliseconds, default 10000. Budget of one analytics query. (S2) */
  readonly cacheQueryTimeout?: number | undefined;
  /** `CACHE_METRICS_ENABLED`. (S2) */
  readonly cacheMetricsEnabled?: boolean | undefined;
  /** `ENABLE_CACHE_WARMING`. (S1) */
  readonly enableCacheWarming?: boolean | undefined;

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
  /** `CACHE_LEASE_MS`, default 10000. How long one process holds the right to fill an entry. */
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
  /** `CACHE_WORKER_THREADS`. Native worker threads. */
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
      }
    | undefined;
  /**
   * `JWT_USER_CLAIMS`. Claims that may hold the user id of a token, tried in order. {@link
   * invalidateAllUserTokens} reaches a cached payload through them, so a payload that has none of them is not
   * cached.
   */
  readonly jwtUserClaims?: readonly string[] | undefined;
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
  invalidateUserCache(userId: string, options?: CallOptions | undefined): Promise<InvalidationResult>;
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
  readonly near: NearUsage;
}

export interface StoreHealth {
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
  /** The channel that carries invalidations; `off` when no near cache needs it. */
  readonly subscription: 'off' | 'healthy' | 'unhealthy';
}

export interface SourceHealth {
  readonly status: 'healthy' | 'down' | 'not-configured';
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
export type Namespace = 'token_bl' | 'user_basic' | 'jwt_payload' | 'jwt_user' | 'user_email';

/** What {@link getMetrics} returns. Counters start at 0 with the engine and only grow; gauges are marked. */
export interface MetricsSnapshot {
  readonly uptimeMs: number;
  readonly store: StoreMetrics;
  readonly source: SourceMetrics;
  /** Gauges. */
  readonly near: NearUsage;
  readonly namespaces: Readonly<Record<Namespace, NamespaceMetrics>>;
  readonly bridge: BridgeMetrics;
  readonly logs: {
    /** Records lost because the logger was too slow. */
    readonly dropped: number;
  };
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

/** Crossings between JavaScript and the native threads. */
export interface BridgeMetrics {
  /** Calls handed to the native side. Near hits never are. */
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
 * Makes what is cached about a user void for every process. Call it after the change is committed, not inside
 * the transaction: a read in between would load the old row again.
 *
 * @throws {StoreUnavailableError} `E_STORE_UNAVAILABLE` when it could be neither applied nor queued. (S1)
 */
export function invalidateUserCache(
  userId: string,
  options?: CallOptions | undefined,
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
 * It does not look at the blacklist: call {@link isTokenBlacklisted} as well. Calls made in the same turn of
 * the event loop share one round trip.
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
