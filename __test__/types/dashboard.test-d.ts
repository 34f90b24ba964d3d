/** Type tests for "Layered caches and the dashboard". Compiled, never run. */

import {
  type BcosCacheError,
  type CacheHealth,
  type CacheLayer,
  createEngine,
  createLayeredCache,
  type DashboardMetrics,
  type Degraded,
  getCacheHealth,
  getDashboardMetrics,
  type InvalidationResult,
  invalidateDashboardCache,
  type Layered,
  type LayeredCache,
  type LayeredPerformance,
  type LayerTiming,
  type RefreshResult,
  refreshDashboardMetrics,
  type Scope,
  type WarmUpResult,
  warmUpDashboardCache,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

interface Fleet {
  readonly pilots: { readonly total: number };
}
declare const layer: CacheLayer<Fleet>;
declare const scope: Scope;

export async function page(): Promise<number> {
  const { performance, ...metrics } = await getDashboardMetrics<Fleet>();
  expectType<string>()(performance.lastUpdated);
  expectType<string>()(performance.cacheLayer);
  expectType<readonly LayerTiming[]>()(performance.tiers);
  return metrics.pilots.total + performance.queryTime;
}
// The seed's call sites: a flag, nothing, a result that nobody looks at.
expectType<Promise<Layered<DashboardMetrics>>>()(getDashboardMetrics());
expectType<Promise<Layered<DashboardMetrics>>>()(getDashboardMetrics(false));
expectType<Promise<Layered<Fleet>>>()(
  getDashboardMetrics<Fleet>(true, { scopeKey: 'a', deadlineMs: 5, signal: AbortSignal.timeout(1) }),
);
expectType<Promise<RefreshResult>>()(refreshDashboardMetrics());
expectType<Promise<WarmUpResult>>()(warmUpDashboardCache());
expectType<Promise<CacheHealth>>()(getCacheHealth());
expectType<Promise<InvalidationResult>>()(invalidateDashboardCache());
export const mutate = async (): Promise<void> => void (await refreshDashboardMetrics());
check<Same<CacheHealth['overall'], 'healthy' | 'degraded' | 'down'>>();
check<Same<CacheHealth['materializedView']['ageSeconds'], number | undefined>>();
check<Same<LayerTiming['outcome'], 'hit' | 'miss' | 'shared' | 'failed' | 'unavailable'>>();
// @ts-expect-error: a scope key of the dashboard is text
void getDashboardMetrics(true, { scopeKey: scope });
// @ts-expect-error: whether the cache is used is said in front
void getDashboardMetrics({ useCache: false });

const plain = createLayeredCache<Fleet>({ key: 'k', ttl: 60, layers: [layer] });
expectType<LayeredCache<Fleet>>()(plain);
expectType<Promise<Layered<Fleet>>>()(plain.get());
expectType<Promise<Layered<Fleet>>>()(plain.get({ useCache: false, scopeKey: scope }));
expectType<Promise<RefreshResult>>()(plain.refresh());
expectType<Promise<WarmUpResult>>()(plain.warmUp({ scopeKey: 'a' }));
expectType<Promise<InvalidationResult>>()(plain.invalidate(scope, { deadlineMs: 5 }));
expectType<Promise<Layered<Fleet>>>()(
  createEngine()
    .createLayeredCache<Fleet>({ key: 'k', ttl: 1, layers: [layer] })
    .get(),
);
// @ts-expect-error: a warm-up always uses the cache
void plain.warmUp({ useCache: false });

// What stands in for a value says so, and only then is there no date.
const standing = createLayeredCache<Fleet>({
  key: 'k',
  ttl: 60,
  layers: [layer],
  placeholder: (error) => {
    expectType<BcosCacheError>()(error);
    return { pilots: { total: 0 } };
  },
});
export async function degraded(): Promise<string> {
  const answer = await standing.get();
  expectType<Layered<Fleet> | Degraded<Fleet>>()(answer);
  if (answer.degraded) {
    expectType<null>()(answer.performance.lastUpdated);
    expectType<'none'>()(answer.performance.cacheLayer);
    return answer.degradedReason;
  }
  expectType<LayeredPerformance>()(answer.performance);
  return answer.performance.lastUpdated;
}

createLayeredCache<Fleet>({
  key: 'k',
  ttl: 60,
  scoped: true,
  layers: [
    {
      name: 'view',
      timeoutMs: 500,
      load: async ({ scopeKey, signal, setLastUpdated }) => {
        expectType<string | Scope | undefined>()(scopeKey);
        expectType<AbortSignal>()(signal);
        setLastUpdated(new Date());
        return null;
      },
    },
    { name: 'queries', load: () => ({ pilots: { total: 1 } }) },
  ],
  refresh: async () => undefined,
});
// @ts-expect-error: not what the cache holds
createLayeredCache<Fleet>({ key: 'k', ttl: 60, layers: [{ name: 'view', load: () => ({ pilots: 1 }) }] });
// @ts-expect-error: objects only
createLayeredCache<string>({ key: 'k', ttl: 60, layers: [] });
// @ts-expect-error: a lifetime is needed
createLayeredCache<Fleet>({ key: 'k', layers: [layer] });
// @ts-expect-error: read-only
export const changed = async () => ((await plain.get()).performance.cacheHit = true);

createEngine({ dashboard: { view: 'v', schema: 'ih', queries: { pilots: 'SELECT 1' } } });
// @ts-expect-error: without queries nothing could answer when the view is gone
createEngine({ dashboard: { view: 'v' } });
