/**
 * The engine as applications hold it: arguments in, native requests out, objects back. No policy here: what
 * is cached, for how long and when it is believed is decided in Rust.
 * Invariant: every method that returns a promise reports a bad argument by rejecting, never by throwing.
 */

import type * as Public from '../index.js';
import { healthOf, metricsOf, summaryOf } from './analytics/health.js';
import { Analytics } from './analytics/service.js';
import { abortable, type CallOptions, check, deadline, json, optionalText, text, time } from './arguments.js';
import { authorize, type Port } from './authorize.js';
import { hasPermission, scopeOf } from './contexts.js';
import { Dashboard } from './dashboard/dashboard.js';
import { Layered } from './dashboard/layered.js';
import { DataSources } from './datasource/results.js';
import { InvalidArgumentError } from './errors.js';
import { Limits } from './limiter/limits.js';
import { Loader } from './loader.js';
import { setLogger } from './logger.js';
import type { Hot, InvalidationReply, NativeEngine, ObjectReply } from './native.js';
import { Objects } from './objects.js';
import { Rbac } from './rbac.js';
import { withRequestSnapshot } from './snapshot.js';
import { Values } from './values.js';
import { Warmer } from './warming/warmer.js';

/** Longest wait of `close()` for running calls, in milliseconds. */
const DRAIN_MS = 5_000;
/** One more than is kept, so that the native side sees that it must cut. */
const WORD_LENGTH = 65;

export class Engine implements Public.Engine {
  readonly #native: NativeEngine;
  readonly #hot: Hot;
  readonly #objects = new Objects();
  readonly #loader = new Loader();
  readonly #rbac: Rbac;
  readonly #port: Port;
  readonly #limits: Limits;
  readonly #dataSources: DataSources;
  readonly #dashboard: Dashboard;
  readonly #warmer: Warmer;
  /** What `AnalyticsCacheV2` is a face of. */
  readonly analytics: Analytics;
  readonly redisCacheService: Public.RedisCacheService;
  #closing: Promise<void> | undefined;

  constructor(native: NativeEngine) {
    this.#native = native;
    this.#hot = native.hot();
    const rbac = new Rbac(native, this.#hot, this.#objects);
    this.#rbac = rbac;
    const limits = new Limits(native, this.#hot);
    this.#limits = limits;
    this.#dataSources = new DataSources(native, this.#objects, this.#loader);
    this.analytics = new Analytics(native);
    this.#warmer = new Warmer(native, this.#dataSources);
    this.redisCacheService = new Values(native, this.#objects, this.#loader);
    const parts = { native, objects: this.#objects, loader: this.#loader };
    this.#dashboard = new Dashboard(parts, this.redisCacheService);
    this.#port = {
      userClaims: native.userClaims(),
      answers: (question, options) => rbac.answers(question, options),
      verify: (token, verify, options) => this.verifyTokenCached(token, verify, options),
      context: (userId, options) => rbac.context(userId, options),
      readLimits: (field, given) => limits.specs(field, given),
      limit: (specs, options) => limits.askAll(specs, options),
    };
  }

  isRedisAvailable(): boolean {
    return this.#native.available();
  }

  async getHealth(): Promise<Public.EngineHealth> {
    return JSON.parse((await this.#native.health()) as string) as Public.EngineHealth;
  }

  getMetrics(): Public.MetricsSnapshot {
    return JSON.parse(this.#native.metrics()) as Public.MetricsSnapshot;
  }

  metricsText(): string {
    return this.#native.metricsText();
  }

  setLogger(logger: Public.Logger | null): void {
    setLogger(logger);
  }

  close(options?: Public.CloseOptions): Promise<void> {
    this.#closing ??= (this.#native.close(options?.drainMs ?? DRAIN_MS) as Promise<unknown>).then(
      () => undefined,
    );
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async isTokenBlacklisted(tokenId: string, options?: CallOptions): Promise<boolean> {
    const id = text('tokenId', tokenId);
    if (options !== undefined) check(options);
    if (this.#hot.peekRevoked(id)) return true;
    return await abortable(this.#hot.tokenIsBlacklisted(id, false, deadline(options)), options?.signal);
  }

  async getCachedTokenBlacklistStatus(tokenId: string, options?: CallOptions): Promise<boolean | null> {
    const reply = this.#native.tokenStatus(text('tokenId', tokenId), deadline(options));
    return abortable(reply as Promise<boolean | null>, options?.signal);
  }

  async cacheTokenBlacklistStatus(
    tokenId: string,
    blacklisted: boolean,
    options?: CallOptions,
  ): Promise<boolean> {
    if (typeof blacklisted !== 'boolean') {
      const message = 'blacklisted is not accepted: true or false is expected';
      throw new InvalidArgumentError(message, { field: 'blacklisted' });
    }
    const reply = this.#native.cacheTokenStatus(text('tokenId', tokenId), blacklisted, deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async invalidateTokenCache(tokenId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateToken(text('tokenId', tokenId), deadline(options)), options);
  }

  async blacklistToken(
    revocation: Public.TokenRevocation,
    options?: CallOptions,
  ): Promise<Public.BlacklistResult> {
    if (typeof revocation !== 'object' || revocation === null) {
      throw new InvalidArgumentError('revocation is not accepted: an object is expected', {
        field: 'revocation',
      });
    }
    const reply = this.#native.blacklistToken(
      text('jti', revocation.jti),
      text('userId', revocation.userId),
      text('tokenType', revocation.tokenType),
      time('expiresAt', revocation.expiresAt),
      text('reason', revocation.reason),
      optionalText('blacklistedBy', revocation.blacklistedBy),
      optionalText('ipAddress', revocation.ipAddress),
      optionalText('userAgent', revocation.userAgent),
      deadline(options),
    );
    const [acknowledged, queued, inserted] = await abortable(
      reply as Promise<InvalidationReply>,
      options?.signal,
    );
    return { acknowledged, queued, inserted: inserted === true };
  }

  async invalidateAllUserTokens(userId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateUserTokens(text('userId', userId), deadline(options)), options);
  }

  async getUserById(userId: string, options?: CallOptions): Promise<Public.User | null> {
    const id = text('userId', userId);
    if (options !== undefined) check(options);
    const serial = this.#hot.peekUser(id);
    const near = serial > 0 ? this.#objects.get(serial) : undefined;
    if (near !== undefined) return near as Public.User;
    // The usual case without a closure or a second promise: this is asked for every request.
    const reply = await abortable(this.#hot.userById(id, false, deadline(options)), options?.signal);
    if (reply === null) return null;
    const known = this.#objects.of(reply);
    if (known !== undefined) return known as Public.User;
    const full = await abortable(this.#hot.userById(id, true, deadline(options)), options?.signal);
    return full === null ? null : ((this.#objects.of(full) ?? null) as Public.User | null);
  }

  async getUserByEmail(email: string, options?: CallOptions): Promise<Public.User | null> {
    const address = text('email', email);
    const user = this.#object(() => this.#native.userByEmail(address, deadline(options)));
    return abortable(user, options?.signal) as Promise<Public.User | null>;
  }

  async invalidateUserCache(userId: string, options?: Public.InvalidateUserOptions) {
    return this.#rbac.invalidate('user', text('userId', userId), options?.reason, options);
  }

  async getCachedUserBasic(userId: string, options?: CallOptions): Promise<Public.User | null> {
    const id = text('userId', userId);
    const user = this.#object((full) => this.#native.cachedUser(id, full, deadline(options)));
    return abortable(user, options?.signal) as Promise<Public.User | null>;
  }

  async cacheUserBasic(userId: string, user: Public.UserInput, options?: CallOptions): Promise<boolean> {
    const reply = this.#native.cacheUser(text('userId', userId), json('user', user), deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async getCachedJWTPayload<T extends object = Public.JWTPayload>(
    token: string,
    options?: CallOptions,
  ): Promise<Readonly<T> | null> {
    const given = text('token', token);
    const payload = this.#object((full) => this.#hot.cachedJwt(given, full, deadline(options)));
    return abortable(payload, options?.signal) as Promise<Readonly<T> | null>;
  }

  async cacheJWTPayload(token: string, payload: object, options?: CallOptions): Promise<boolean> {
    const reply = this.#native.cacheJwt(text('token', token), json('payload', payload), deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async invalidateJWTPayload(tokenId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateJwt(text('tokenId', tokenId), deadline(options)), options);
  }

  async verifyTokenCached<T extends object = Public.JWTPayload>(
    token: string,
    verify: (token: string) => T | Promise<T>,
    options?: CallOptions,
  ): Promise<Readonly<T>> {
    const given = text('token', token);
    if (typeof verify !== 'function') {
      throw new InvalidArgumentError('verify is not accepted: a function is expected', { field: 'verify' });
    }
    const payload = this.#loader.run<object>(
      {
        begin: (full) => this.#hot.beginJwt(given, full, deadline(options)),
        found: (serial, written) => this.#objects.of(written === undefined ? serial : [serial, written]),
        load: () => verify(given),
        encode: (loaded) => json('the result of verify', loaded),
        end: (lead, written) => this.#native.endLead(lead, written) as Promise<unknown>,
        decode: (written, serial) => this.#objects.parse(serial, written),
      },
      options,
    );
    return payload as Promise<Readonly<T>>;
  }

  getCachedUserContext(userId: string, options?: Public.ContextOptions): Promise<Public.UserContext> {
    return this.#rbac.context(userId, options);
  }

  getCachedRolePermissions(roleId: string, options?: CallOptions): Promise<Public.Role | null> {
    return this.#rbac.role(roleId, options);
  }

  async invalidateUserContext(userId: string, reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('user', text('userId', userId), reason, options);
  }

  async invalidateUsersWithRole(roleId: string, reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('role_users', text('roleId', roleId), reason, options);
  }

  async invalidateOrganizationMembers(id: string, reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('organization_members', text('organizationId', id), reason, options);
  }

  async invalidateOrganizationHierarchy(reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('hierarchy', '', reason, options);
  }

  async invalidateRolePermissions(roleId: string, reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('role', text('roleId', roleId), reason, options);
  }

  async invalidateAllRolePermissions(reason?: string, options?: Public.InvalidateOptions) {
    return this.#rbac.invalidate('roles', '', reason, options);
  }

  hasPermission(context: Public.UserContext, permission: string): boolean {
    return hasPermission(context, permission);
  }

  scopeOf(context: Public.UserContext, permission?: string): Public.Scope {
    return scopeOf(context, permission) as Public.Scope;
  }

  withRequestSnapshot<T>(fn: () => T | PromiseLike<T>): Promise<T> {
    return withRequestSnapshot(fn);
  }

  authorizeRequest<T extends object = Public.JWTPayload>(
    request: Public.AuthorizeRequest<T>,
    options?: CallOptions,
  ): Promise<Public.AuthorizeResult<T>> {
    return authorize(this.#port, request, options) as Promise<Public.AuthorizeResult<T>>;
  }

  queryDataSourceWithCache(
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: () => Promise<object>,
    forceRefresh?: boolean,
    options?: Public.DataSourceOptions,
  ): Promise<never> {
    const asked = this.#dataSources.query(params, userOrganizations, queryFunction, forceRefresh, options);
    return asked as Promise<never>;
  }

  queryAsResponse(
    request: { readonly headers: { get(name: string): string | null } },
    params: object,
    userOrganizations: readonly string[] | null | undefined,
    queryFunction: () => Promise<Public.DataSourceQueryResult>,
    options?: Public.DataSourceResponseOptions,
  ): Promise<Response> {
    return this.#dataSources.respond(request, params, userOrganizations, queryFunction, options);
  }

  async invalidateDataSourceCache(cacheKey: string, options?: CallOptions) {
    return this.#dataSources.invalidate(cacheKey, options);
  }

  async invalidateDataSourceCaches(dataSourceId: string | number, options?: CallOptions) {
    return this.#dataSources.invalidateAll(dataSourceId, options);
  }

  async warmCache(options?: Public.WarmupOptions): Promise<Public.WarmupStats> {
    return this.#warmer.warm(options);
  }

  async getAnalyticsCacheStats(options?: CallOptions): Promise<Public.AnalyticsCacheStats> {
    const datasources = (await this.analytics.stats(options)).map(metricsOf);
    return { summary: summaryOf(datasources), datasources };
  }

  async getAnalyticsCacheHealth(options?: CallOptions): Promise<Public.AnalyticsCacheHealth> {
    return healthOf(await this.analytics.stats(options));
  }

  recordCacheFallback(operation: string, reason: string): void {
    this.#native.recordFallback(word(operation), word(reason));
  }

  createLayeredCache(definition: Public.LayeredDefinition<object>): never {
    const parts = { native: this.#native, objects: this.#objects, loader: this.#loader };
    return new Layered(definition, () => parts) as unknown as never;
  }

  getDashboardMetrics(useCache: boolean = true, options?: Public.DashboardOptions): Promise<never> {
    return this.#dashboard.metrics(useCache, options) as Promise<never>;
  }

  refreshDashboardMetrics(options?: CallOptions): Promise<Public.RefreshResult> {
    return this.#dashboard.refresh(options);
  }

  warmUpDashboardCache(options?: Public.DashboardOptions): Promise<Public.WarmUpResult> {
    return this.#dashboard.warmUp(options);
  }

  getCacheHealth(): Promise<Public.CacheHealth> {
    return this.#dashboard.health();
  }

  invalidateDashboardCache(options?: Public.DashboardOptions): Promise<Public.InvalidationResult> {
    return this.#dashboard.invalidate(options);
  }

  checkRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    options?: Public.RateLimitOptions,
  ): Promise<Public.RateLimitResult> {
    return this.#limits.check(type, identifier, limit, windowSeconds, options);
  }

  checkIpRateLimit(ip: string, limit: number, windowSeconds: number, options?: Public.RateLimitOptions) {
    return this.#limits.ip(ip, limit, windowSeconds, options);
  }

  checkUserRateLimit(
    userId: string,
    limit: number,
    windowSeconds: number,
    options?: Public.RateLimitOptions,
  ) {
    return this.#limits.check('user', userId, limit, windowSeconds, options);
  }

  checkEndpointRateLimit(
    endpoint: string,
    limit: number,
    windowSeconds: number,
    options?: Public.RateLimitOptions,
  ) {
    return this.#limits.check('endpoint', endpoint, limit, windowSeconds, options);
  }

  checkGlobalRateLimit(limit: number, windowSeconds: number, options?: Public.RateLimitOptions) {
    return this.#limits.check('global', '', limit, windowSeconds, options);
  }

  checkRateLimits(limits: readonly Public.RateLimitCheck[], options?: CallOptions) {
    return this.#limits.checkAll(limits, options);
  }

  peekRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    options?: Public.RateLimitOptions,
  ): Promise<Public.RateLimitResult> {
    return this.#limits.check(type, identifier, limit, windowSeconds, options, false);
  }

  resetRateLimit(type: string, identifier: string, options?: CallOptions) {
    return this.#limits.reset(type, identifier, options);
  }

  blockRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    blockSeconds: number,
    options?: CallOptions,
  ): Promise<void> {
    return this.#limits.block(type, identifier, limit, windowSeconds, blockSeconds, options);
  }

  rewardRateLimit(
    type: string,
    identifier: string,
    limit: number,
    windowSeconds: number,
    cost: number,
    options?: CallOptions,
  ): Promise<void> {
    return this.#limits.reward(type, identifier, limit, windowSeconds, cost, options);
  }

  applyRateLimit(
    request: Public.RateLimitRequest,
    type: string = 'api',
    options?: Public.ApplyRateLimitOptions,
  ): Promise<Public.AppliedRateLimit> {
    return this.#limits.apply(request, type, options);
  }

  /** The object of a read; asks in full when this side does not have the object of a near copy. */
  async #object(ask: (full: boolean) => Promise<unknown>): Promise<object | null> {
    const reply = (await ask(false)) as ObjectReply;
    if (reply === null) return null;
    const known = this.#objects.of(reply);
    if (known !== undefined) return known;
    const full = (await ask(true)) as ObjectReply;
    return full === null ? null : (this.#objects.of(full) ?? null);
  }
}

/** As much of it as is looked at. Where something has gone wrong already, a bad word is no reason for another error. */
function word(given: unknown): string {
  return typeof given === 'string' ? given.slice(0, WORD_LENGTH) : '';
}

async function invalidated(
  reply: unknown,
  options: CallOptions | undefined,
): Promise<Public.InvalidationResult> {
  const [acknowledged, queued] = await abortable(reply as Promise<InvalidationReply>, options?.signal);
  return { acknowledged, queued };
}
