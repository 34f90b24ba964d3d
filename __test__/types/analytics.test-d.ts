/** Type tests for "Analytics". Compiled, never run. */

import {
  type AdvancedFilter,
  type AggregateQuestion,
  AnalyticsCacheV2,
  type AnalyticsColumn,
  type AnalyticsFacts,
  type AnalyticsFallbackReason,
  type AnalyticsValue,
  type CacheEntry,
  type CacheQueryFilters,
  type CacheStats,
  calculateCacheHealth,
  type DatasourceCacheMetrics,
  type Engine,
  getAnalyticsCacheHealth,
  getAnalyticsCacheStats,
  type InvalidationResult,
  type Scope,
  scopeOf,
  type UserContext,
  type WarmResult,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

declare const engine: Engine;
declare const context: UserContext;
const analytics = new AnalyticsCacheV2();
new AnalyticsCacheV2(engine);

const filters: CacheQueryFilters = {
  datasourceId: 1,
  measure: 'Charges',
  frequency: 'Monthly',
  practiceUids: [1, 2n],
  providerUids: [],
  startDate: new Date(),
  endDate: '2024-12-31',
  advancedFilters: [
    { field: 'measure_value', operator: 'gt', value: 5 },
    { field: 'measure_value', operator: 'lte', value: 10n ** 30n },
    { field: 'provider_name', operator: 'not_in', value: ['a', null] },
    { field: 'date_index', operator: 'between', value: ['2024-01-01', new Date()] },
  ],
  columns: ['date_index', 'measure_value'],
  scope: scopeOf(context),
};
expectType<Promise<CacheEntry[]>>()(analytics.query(filters));
expectType<Promise<CacheEntry[]>>()(
  analytics.query({ datasourceId: 1 }, { numeric: 'string', deadlineMs: 5 }),
);
expectType<Promise<CacheEntry[]>>()(
  analytics.queryForContext(context, filters, { permission: 'analytics:read' }),
);
expectType<Promise<CacheEntry[][]>>()(analytics.batchQuery([filters, { datasourceId: 2 }]));
expectType<Promise<Buffer>>()(analytics.queryJson(filters));
expectType<Promise<boolean>>()(analytics.isCacheWarm(1));
expectType<Promise<string | null>>()(analytics.getLastWarmedTime(1));
expectType<Promise<CacheStats>>()(analytics.getCacheStats(1));
expectType<Promise<WarmResult>>()(
  analytics.warmCacheConcurrent(1, {
    force: true,
    onProgress: ({ percent, stage }) => void [percent, stage],
  }),
);

// What a scope must not be: put together, lost on the way, or somebody's description of one.
declare const perhaps: Scope | undefined;
// @ts-expect-error: lost on the way it would show everything
void analytics.query({ datasourceId: 1, scope: perhaps });
// @ts-expect-error: only scopeOf makes one
void analytics.query({ datasourceId: 1, scope: { kind: 'all', practices: [], providers: null } });
// @ts-expect-error: a misspelt filter
void analytics.query({ datasourceId: 1, practiceUid: [1] });
// @ts-expect-error: ids are numbers
void analytics.query({ datasourceId: 1, practiceUids: ['1'] });
// @ts-expect-error: a data source is needed
void analytics.query({ measure: 'Charges' });

// Operators take what they take.
const wrong: AdvancedFilter[] = [
  // @ts-expect-error: a list
  { field: 'a', operator: 'in', value: 1 },
  // @ts-expect-error: two values
  { field: 'a', operator: 'between', value: [1] },
  // @ts-expect-error: one value
  { field: 'a', operator: 'eq', value: [1] },
  // @ts-expect-error: no such operator
  { field: 'a', operator: 'equals', value: 1 },
  // @ts-expect-error: a condition without a value is none
  { field: 'a', operator: 'eq' },
];
void wrong;

const question: AggregateQuestion = {
  datasourceId: 1,
  groupBy: ['practice_uid', { column: 'date_index', unit: 'quarter' }],
  dateTrunc: 'month',
  metrics: [{ function: 'count' }, { function: 'sum', column: 'measure_value', as: 'total' }],
};
expectType<Promise<CacheEntry[]>>()(analytics.aggregate(question));
// @ts-expect-error: what of the groups
void analytics.aggregate({ datasourceId: 1, groupBy: ['a'] });
// @ts-expect-error: no such function
void analytics.aggregate({ datasourceId: 1, metrics: [{ function: 'median', column: 'a' }] });
// @ts-expect-error: columns are those of groups and metrics
void analytics.aggregate({ datasourceId: 1, metrics: [], columns: ['a'] });

async function answers(): Promise<void> {
  const answer = await analytics.fetch(filters, { fallback: 'none' });
  expectType<CacheEntry[]>()(answer.rows);
  expectType<AnalyticsFallbackReason | undefined>()(answer.reason);
  expectType<'near' | 'store' | 'source'>()(answer.layer);
  expectType<AnalyticsValue | undefined>()(answer.rows[0]?.['measure_value']);

  const { columns, names, rowCount, generation } = await analytics.queryColumns(filters);
  expectType<readonly string[]>()(names);
  expectType<number>()(rowCount + generation);
  const column: AnalyticsColumn | undefined = columns['measure_value'];
  if (column?.kind === 'numbers') expectType<Int32Array | Float64Array>()(column.values);
  if (column?.kind === 'codes') {
    expectType<'text' | 'uuid' | 'date' | 'json'>()(column.type);
    expectType<Uint8Array | Uint16Array | Uint32Array>()(column.codes);
    expectType<readonly string[]>()(column.dictionary);
  }
  if (column?.kind === 'bigints') expectType<bigint | undefined>()(column.values[0]);

  const invalidation: InvalidationResult = await analytics.invalidate(1);
  expectType<boolean>()(invalidation.acknowledged);
  expectType<number>()((await analytics.rollback(1)).generation);
  expectType<number>()((await analytics.approve(1)).totalRows);
  expectType<true>()((await analytics.discard(1)).discarded);

  const { summary, datasources } = await getAnalyticsCacheStats();
  expectType<number | null>()(summary.overallCacheHitRate);
  expectType<DatasourceCacheMetrics[]>()(datasources);
  for (const metrics of datasources) {
    expectType<'excellent' | 'good' | 'degraded' | 'stale' | 'cold'>()(calculateCacheHealth(metrics).health);
    expectType<number | null>()(metrics.ageMinutes);
  }
  expectType<'excellent' | 'good' | 'degraded' | 'critical'>()((await getAnalyticsCacheHealth()).overall);
}
void answers;
check<Same<AnalyticsFacts['cacheHit'], boolean>>();
// The names of S2.
check<
  Same<
    Pick<
      CacheStats,
      | 'datasourceId'
      | 'totalEntries'
      | 'indexCount'
      | 'estimatedMemoryMB'
      | 'lastWarmed'
      | 'isWarm'
      | 'version'
    >,
    {
      readonly datasourceId: number;
      readonly totalEntries: number;
      readonly indexCount: number;
      readonly estimatedMemoryMB: number;
      readonly lastWarmed: string | null;
      readonly isWarm: boolean;
      readonly version: 'v2';
    }
  >
>();
