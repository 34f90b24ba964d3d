/**
 * Everything the package exports, as one object: the functions of the default engine, the classes, and how
 * to make another engine. `index.js` re-exports the names for `require` and `import` alike.
 */

import type * as Public from '../index.js';
import { AnalyticsCacheV2 as Analytics } from './analytics/cache-v2.js';
import { calculateCacheHealth as score } from './analytics/score.js';
import * as contexts from './contexts.js';
import { lazily } from './dashboard/layered.js';
import type { Engine } from './engine.js';
import { closeDefault, configure, createEngine, getEngine } from './engines.js';
import * as address from './limiter/address.js';
import * as fields from './limiter/fields.js';
import * as problem from './limiter/problem.js';
import * as limiter from './limiter/redis-rate-limiter.js';
import { setLogger } from './logger.js';
import * as scope from './scope.js';
import * as snapshot from './snapshot.js';

export * from './errors.js';
export { configure, createEngine, getEngine, setLogger };

export const close: typeof Public.close = closeDefault;

/** A method of the default engine as a function; an engine that cannot be made is a rejection. */
function delegate<Name extends AsyncMethod>(name: Name): Engine[Name] {
  // Plain parameters instead of a rest array: this sits in front of every near hit.
  const call = (a: unknown, b: unknown, c: unknown, d: unknown, e: unknown, f: unknown) => {
    let engine: Engine;
    try {
      engine = getEngine();
    } catch (error) {
      return Promise.reject(error);
    }
    return (engine[name] as (...given: unknown[]) => unknown).call(engine, a, b, c, d, e, f);
  };
  return call as unknown as Engine[Name];
}

type AsyncMethod = {
  [Name in keyof Engine]: Engine[Name] extends (...given: never[]) => Promise<unknown> ? Name : never;
}[keyof Engine];

export const isRedisAvailable: typeof Public.isRedisAvailable = () => getEngine().isRedisAvailable();
export const getMetrics: typeof Public.getMetrics = () => getEngine().getMetrics();
export const metricsText: typeof Public.metricsText = () => getEngine().metricsText();

export const getHealth: typeof Public.getHealth = delegate('getHealth');
export const isTokenBlacklisted: typeof Public.isTokenBlacklisted = delegate('isTokenBlacklisted');
export const getCachedTokenBlacklistStatus: typeof Public.getCachedTokenBlacklistStatus = delegate(
  'getCachedTokenBlacklistStatus',
);
export const cacheTokenBlacklistStatus: typeof Public.cacheTokenBlacklistStatus =
  delegate('cacheTokenBlacklistStatus');
export const invalidateTokenCache: typeof Public.invalidateTokenCache = delegate('invalidateTokenCache');
export const blacklistToken: typeof Public.blacklistToken = delegate('blacklistToken');
export const invalidateAllUserTokens: typeof Public.invalidateAllUserTokens =
  delegate('invalidateAllUserTokens');
export const getUserById: typeof Public.getUserById = delegate('getUserById');
export const getUserByEmail: typeof Public.getUserByEmail = delegate('getUserByEmail');
export const invalidateUserCache: typeof Public.invalidateUserCache = delegate('invalidateUserCache');
export const getCachedUserBasic: typeof Public.getCachedUserBasic = delegate('getCachedUserBasic');
export const cacheUserBasic: typeof Public.cacheUserBasic = delegate('cacheUserBasic');
export const getCachedJWTPayload: typeof Public.getCachedJWTPayload = delegate('getCachedJWTPayload');
export const cacheJWTPayload: typeof Public.cacheJWTPayload = delegate('cacheJWTPayload');
export const invalidateJWTPayload: typeof Public.invalidateJWTPayload = delegate('invalidateJWTPayload');
export const verifyTokenCached: typeof Public.verifyTokenCached = delegate('verifyTokenCached');

export const getCachedUserContext: typeof Public.getCachedUserContext = delegate('getCachedUserContext');
export const getCachedRolePermissions: typeof Public.getCachedRolePermissions =
  delegate('getCachedRolePermissions');
export const invalidateUserContext: typeof Public.invalidateUserContext = delegate('invalidateUserContext');
export const invalidateUsersWithRole: typeof Public.invalidateUsersWithRole =
  delegate('invalidateUsersWithRole');
export const invalidateOrganizationMembers: typeof Public.invalidateOrganizationMembers = delegate(
  'invalidateOrganizationMembers',
);
export const invalidateOrganizationHierarchy: typeof Public.invalidateOrganizationHierarchy = delegate(
  'invalidateOrganizationHierarchy',
);
export const invalidateRolePermissions: typeof Public.invalidateRolePermissions =
  delegate('invalidateRolePermissions');
export const invalidateAllRolePermissions: typeof Public.invalidateAllRolePermissions = delegate(
  'invalidateAllRolePermissions',
);
export const authorizeRequest: typeof Public.authorizeRequest = delegate('authorizeRequest');

export const checkRateLimit: typeof Public.checkRateLimit = delegate('checkRateLimit');
export const checkIpRateLimit: typeof Public.checkIpRateLimit = delegate('checkIpRateLimit');
export const checkUserRateLimit: typeof Public.checkUserRateLimit = delegate('checkUserRateLimit');
export const checkEndpointRateLimit: typeof Public.checkEndpointRateLimit =
  delegate('checkEndpointRateLimit');
export const checkGlobalRateLimit: typeof Public.checkGlobalRateLimit = delegate('checkGlobalRateLimit');
export const checkRateLimits: typeof Public.checkRateLimits = delegate('checkRateLimits');
export const peekRateLimit: typeof Public.peekRateLimit = delegate('peekRateLimit');
export const resetRateLimit: typeof Public.resetRateLimit = delegate('resetRateLimit');
export const blockRateLimit: typeof Public.blockRateLimit = delegate('blockRateLimit');
export const rewardRateLimit: typeof Public.rewardRateLimit = delegate('rewardRateLimit');
export const applyRateLimit: typeof Public.applyRateLimit = delegate('applyRateLimit');

export const queryDataSourceWithCache: typeof Public.queryDataSourceWithCache =
  delegate('queryDataSourceWithCache');
export const queryAsResponse: typeof Public.queryAsResponse = delegate('queryAsResponse');
export const invalidateDataSourceCache: typeof Public.invalidateDataSourceCache =
  delegate('invalidateDataSourceCache');
export const invalidateDataSourceCaches: typeof Public.invalidateDataSourceCaches = delegate(
  'invalidateDataSourceCaches',
);

/** A cache of the default engine, which is not made before the cache is used. */
export const createLayeredCache: typeof Public.createLayeredCache = (
  definition: Public.LayeredDefinition<object>,
): never => lazily(definition, () => getEngine().createLayeredCache(definition)) as unknown as never;
export const getDashboardMetrics: typeof Public.getDashboardMetrics = delegate('getDashboardMetrics');
export const refreshDashboardMetrics: typeof Public.refreshDashboardMetrics =
  delegate('refreshDashboardMetrics');
export const warmUpDashboardCache: typeof Public.warmUpDashboardCache = delegate('warmUpDashboardCache');
export const getCacheHealth: typeof Public.getCacheHealth = delegate('getCacheHealth');
export const invalidateDashboardCache: typeof Public.invalidateDashboardCache =
  delegate('invalidateDashboardCache');

export const warmCache: typeof Public.warmCache = delegate('warmCache');
/** Called where something has gone wrong already: an engine that cannot be made is reported by every other function. */
export const recordCacheFallback: typeof Public.recordCacheFallback = (operation, reason) => {
  try {
    getEngine().recordCacheFallback(operation, reason);
  } catch {
    // Nothing to count with.
  }
};

export const getAnalyticsCacheStats: typeof Public.getAnalyticsCacheStats =
  delegate('getAnalyticsCacheStats');
export const getAnalyticsCacheHealth: typeof Public.getAnalyticsCacheHealth =
  delegate('getAnalyticsCacheHealth');

/** The service of the default engine; an engine that cannot be made is a rejection, for counts an error. */
export const redisCacheService: typeof Public.redisCacheService = Object.freeze({
  get: async (key, options) => service().get(key, options),
  mget: async (keys, options) => service().mget(keys, options),
  set: async (key, value, ttlSeconds, options) => service().set(key, value, ttlSeconds, options),
  mset: async (entries, options) => service().mset(entries, options),
  setWithTags: async (key, value, ttlSeconds, tags, options) =>
    service().setWithTags(key, value, ttlSeconds, tags, options),
  del: async (key, options) => service().del(key, options),
  delPattern: async (pattern, options) => service().delPattern(pattern, options),
  invalidateByTag: async (tag, options) => service().invalidateByTag(tag, options),
  flushAll: async (options) => service().flushAll(options),
  exists: async (key, options) => service().exists(key, options),
  ttl: async (key, options) => service().ttl(key, options),
  expire: async (key, ttlSeconds, options) => service().expire(key, ttlSeconds, options),
  incr: async (key, delta, options) => service().incr(key, delta, options),
  decr: async (key, delta, options) => service().decr(key, delta, options),
  info: async (options) => service().info(options),
  getMetrics: () => service().getMetrics(),
  resetMetrics: () => service().resetMetrics(),
  getOrSet: async (key, compute, ttlSeconds, options) =>
    service().getOrSet(key, compute, ttlSeconds, options),
} satisfies Public.RedisCacheService);

function service(): Public.RedisCacheService {
  return getEngine().redisCacheService;
}

export const redisGet: typeof Public.redisGet = (key, options) => redisCacheService.get(key, options);
export const redisSet: typeof Public.redisSet = (key, value, ttl, options) =>
  redisCacheService.set(key, value, ttl, options);
export const redisDel: typeof Public.redisDel = (key, options) => redisCacheService.del(key, options);
export { CACHE_KEYS, CACHE_TTL } from './cache-keys.js';

// These need no engine.
export const hasPermission: typeof Public.hasPermission = contexts.hasPermission;
export const scopeOf: typeof Public.scopeOf = contexts.scopeOf as unknown as typeof Public.scopeOf;
export const withRequestSnapshot: typeof Public.withRequestSnapshot = snapshot.withRequestSnapshot;
export const getRateLimitKey: typeof Public.getRateLimitKey = address.getRateLimitKey;
export const addRateLimitHeaders: typeof Public.addRateLimitHeaders = fields.addRateLimitHeaders;
export const rateLimitResponse: typeof Public.rateLimitResponse = problem.rateLimitResponse;
export const RedisRateLimiter: typeof Public.RedisRateLimiter = limiter.RedisRateLimiter;
export const AnalyticsCacheV2: typeof Public.AnalyticsCacheV2 =
  Analytics as unknown as typeof Public.AnalyticsCacheV2;
export const calculateCacheHealth: typeof Public.calculateCacheHealth = score;
export const Scope: typeof Public.Scope = scope.Scope as unknown as typeof Public.Scope;
