/** Type tests for "Values of the application". Compiled, never run. */

import {
  CACHE_KEYS,
  CACHE_TTL,
  type CacheServiceMetrics,
  type InvalidationResult,
  type RedisCacheService,
  redisCacheService,
  redisDel,
  redisGet,
  redisSet,
  type StoreInfo,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

interface Fleet {
  readonly pilots: number;
}
expectType<Promise<Fleet | null>>()(redisCacheService.get<Fleet>(CACHE_KEYS.FLEET_STATS));
expectType<Promise<(Fleet | null)[]>>()(redisCacheService.mget<Fleet>(['a', 'b']));
expectType<Promise<boolean>>()(redisCacheService.mset([['a', 1, CACHE_TTL.DASHBOARD]]));
expectType<Promise<boolean>>()(redisCacheService.setWithTags('a', {}, 60, ['pilots']));
expectType<Promise<number>>()(redisCacheService.invalidateByTag('pilots'));
expectType<Promise<number>>()(redisCacheService.delPattern('fleet:*', { deadlineMs: 1_000 }));
expectType<Promise<number>>()(redisCacheService.flushAll());
expectType<Promise<number>>()(redisCacheService.incr('n'));
expectType<Promise<number>>()(redisCacheService.decr('n', 2, { ttlSeconds: 60 }));
expectType<Promise<boolean>>()(redisCacheService.exists('n'));
expectType<Promise<number>>()(redisCacheService.ttl('n'));
expectType<Promise<boolean>>()(redisCacheService.expire('n', 60));
expectType<Promise<StoreInfo>>()(redisCacheService.info());
expectType<CacheServiceMetrics>()(redisCacheService.getMetrics());
expectType<void>()(redisCacheService.resetMetrics());
expectType<Promise<Fleet | null>>()(redisGet<Fleet>('a'));
expectType<Promise<boolean>>()(redisSet('a', 1, 60));
expectType<Promise<InvalidationResult>>()(redisDel('a'));
check<Same<typeof redisCacheService, RedisCacheService>>();
check<Same<(typeof CACHE_KEYS)['DASHBOARD_METRICS'], 'dashboard:metrics:v3'>>();
// @ts-expect-error: a lifetime is needed
void redisCacheService.set('a', 1);
// @ts-expect-error: constants
CACHE_TTL.DASHBOARD = 30;
