// The public surface for `require` and, because every name is written out, for `import` alike.

const api = require('./dist/index.js');

exports.createEngine = api.createEngine;
exports.configure = api.configure;
exports.getEngine = api.getEngine;
exports.setLogger = api.setLogger;
exports.close = api.close;
exports.isRedisAvailable = api.isRedisAvailable;
exports.getHealth = api.getHealth;
exports.getMetrics = api.getMetrics;
exports.metricsText = api.metricsText;

exports.isTokenBlacklisted = api.isTokenBlacklisted;
exports.getCachedTokenBlacklistStatus = api.getCachedTokenBlacklistStatus;
exports.cacheTokenBlacklistStatus = api.cacheTokenBlacklistStatus;
exports.invalidateTokenCache = api.invalidateTokenCache;
exports.blacklistToken = api.blacklistToken;
exports.invalidateAllUserTokens = api.invalidateAllUserTokens;

exports.getUserById = api.getUserById;
exports.getUserByEmail = api.getUserByEmail;
exports.invalidateUserCache = api.invalidateUserCache;
exports.getCachedUserBasic = api.getCachedUserBasic;
exports.cacheUserBasic = api.cacheUserBasic;

exports.getCachedJWTPayload = api.getCachedJWTPayload;
exports.cacheJWTPayload = api.cacheJWTPayload;
exports.invalidateJWTPayload = api.invalidateJWTPayload;
exports.verifyTokenCached = api.verifyTokenCached;

exports.getCachedUserContext = api.getCachedUserContext;
exports.getCachedRolePermissions = api.getCachedRolePermissions;
exports.invalidateUserContext = api.invalidateUserContext;
exports.invalidateUsersWithRole = api.invalidateUsersWithRole;
exports.invalidateOrganizationMembers = api.invalidateOrganizationMembers;
exports.invalidateOrganizationHierarchy = api.invalidateOrganizationHierarchy;
exports.invalidateRolePermissions = api.invalidateRolePermissions;
exports.invalidateAllRolePermissions = api.invalidateAllRolePermissions;
exports.hasPermission = api.hasPermission;
exports.scopeOf = api.scopeOf;
exports.Scope = api.Scope;
exports.withRequestSnapshot = api.withRequestSnapshot;
exports.authorizeRequest = api.authorizeRequest;

exports.checkRateLimit = api.checkRateLimit;
exports.checkIpRateLimit = api.checkIpRateLimit;
exports.checkUserRateLimit = api.checkUserRateLimit;
exports.checkEndpointRateLimit = api.checkEndpointRateLimit;
exports.checkGlobalRateLimit = api.checkGlobalRateLimit;
exports.checkRateLimits = api.checkRateLimits;
exports.peekRateLimit = api.peekRateLimit;
exports.resetRateLimit = api.resetRateLimit;
exports.blockRateLimit = api.blockRateLimit;
exports.rewardRateLimit = api.rewardRateLimit;
exports.applyRateLimit = api.applyRateLimit;
exports.RedisRateLimiter = api.RedisRateLimiter;
exports.getRateLimitKey = api.getRateLimitKey;
exports.addRateLimitHeaders = api.addRateLimitHeaders;
exports.rateLimitResponse = api.rateLimitResponse;

exports.queryDataSourceWithCache = api.queryDataSourceWithCache;
exports.queryAsResponse = api.queryAsResponse;
exports.invalidateDataSourceCache = api.invalidateDataSourceCache;
exports.invalidateDataSourceCaches = api.invalidateDataSourceCaches;

exports.createLayeredCache = api.createLayeredCache;
exports.getDashboardMetrics = api.getDashboardMetrics;
exports.refreshDashboardMetrics = api.refreshDashboardMetrics;
exports.warmUpDashboardCache = api.warmUpDashboardCache;
exports.getCacheHealth = api.getCacheHealth;
exports.invalidateDashboardCache = api.invalidateDashboardCache;
exports.warmCache = api.warmCache;
exports.recordCacheFallback = api.recordCacheFallback;

exports.AnalyticsCacheV2 = api.AnalyticsCacheV2;
exports.getAnalyticsCacheStats = api.getAnalyticsCacheStats;
exports.getAnalyticsCacheHealth = api.getAnalyticsCacheHealth;
exports.calculateCacheHealth = api.calculateCacheHealth;

exports.redisCacheService = api.redisCacheService;
exports.redisGet = api.redisGet;
exports.redisSet = api.redisSet;
exports.redisDel = api.redisDel;
exports.CACHE_KEYS = api.CACHE_KEYS;
exports.CACHE_TTL = api.CACHE_TTL;

exports.BcosCacheError = api.BcosCacheError;
exports.ConfigError = api.ConfigError;
exports.InvalidArgumentError = api.InvalidArgumentError;
exports.SourceUnavailableError = api.SourceUnavailableError;
exports.StoreUnavailableError = api.StoreUnavailableError;
exports.DeadlineError = api.DeadlineError;
exports.OverloadedError = api.OverloadedError;
exports.ScopeError = api.ScopeError;
exports.NotFoundError = api.NotFoundError;
exports.ConflictError = api.ConflictError;
exports.RateLimitedError = api.RateLimitedError;
exports.ClosedError = api.ClosedError;
