/** Type tests for "Warming and fallbacks". Compiled, never run. */

import {
  createEngine,
  type EngineHealth,
  type MetricsSnapshot,
  recordCacheFallback,
  type WarmupDataSource,
  type WarmupLevel,
  type WarmupOptions,
  type WarmupProgress,
  type WarmupStage,
  type WarmupStats,
  warmCache,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

declare const chart: WarmupDataSource;
declare const signal: AbortSignal | undefined;

expectType<Promise<WarmupStats>>()(warmCache());
expectType<Promise<WarmupStats>>()(createEngine().warmCache({ level: 'aggressive', users: 10, signal }));
void warmCache({ level: undefined, users: undefined, dataSources: undefined, onProgress: undefined });
void warmCache({ dataSources: [chart] as const, concurrency: 4, force: true, deadlineMs: 5_000 });
void warmCache({ dataSources: (mostUsed) => mostUsed.map(() => chart) });
void warmCache({ dataSources: async (mostUsed) => (mostUsed.includes('3') ? [chart] : []) });
void warmCache({
  dataSources: [
    {
      params: { dataSourceId: 3 },
      userOrganizations: null,
      queryFunction: async () => ({ data: [{ a: 1 }], query_time_ms: 1 }),
      options: { scopeKey: 'all', timeZone: 'Europe/Berlin' },
    },
  ],
});
void warmCache({
  onProgress: (progress) => {
    expectType<WarmupProgress>()(progress);
    check<Same<typeof progress.stage, WarmupStage>>();
  },
});
check<Same<WarmupLevel, 'none' | 'minimal' | 'aggressive'>>();
check<Same<WarmupStage, 'roles' | 'users' | 'dataSources'>>();
check<Same<WarmupOptions['level'], WarmupLevel | undefined>>();
// @ts-expect-error: unknown level
void warmCache({ level: 'all' });
// @ts-expect-error: a query is expected
void warmCache({ dataSources: [{ params: {}, userOrganizations: null }] });
// @ts-expect-error: rows are expected
void warmCache({ dataSources: [{ params: {}, queryFunction: async () => ({ rows: [] }) }] });
check<Same<keyof NonNullable<WarmupDataSource['options']>, 'scopeKey' | 'timeZone'>>();

/** The shape of S1, and what is additive. */
export async function report(): Promise<number> {
  const stats = await warmCache();
  // @ts-expect-error: a report is not a switch
  stats.errors = 0;
  const { rolesWarmed, usersWarmed, dataSourcesWarmed, duration, errors, ...more } = stats;
  check<Same<keyof typeof more, 'skipped' | 'cancelled' | 'reason'>>();
  return rolesWarmed + usersWarmed + dataSourcesWarmed + duration + errors;
}

expectType<void>()(recordCacheFallback('getChart', 'timeout'));
expectType<void>()(createEngine().recordCacheFallback('getChart', 'timeout'));
// @ts-expect-error: a word is expected
recordCacheFallback('getChart', new Error('timeout'));

export function describe(health: EngineHealth, metrics: MetricsSnapshot): string {
  expectType<'healthy' | 'degraded'>()(health.fallback.status);
  expectType<number | null>()(health.fallback.share);
  expectType<'idle' | 'running'>()(health.warming.state);
  expectType<WarmupStage | null>()(health.warming.stage);
  expectType<number | undefined>()(health.warming.last?.rolesWarmed);
  for (const { operation, reason, count } of metrics.fallback.counts)
    return `${operation} ${reason} ${count}`;
  return health.warming.last?.endedAt ?? '';
}
