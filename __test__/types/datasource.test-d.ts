/** Type tests for "Results of data sources". Compiled, never run. */

import {
  createEngine,
  type DataSourceMetrics,
  type DataSourceOptions,
  type DataSourceResult,
  getMetrics,
  type InvalidationResult,
  invalidateDataSourceCache,
  invalidateDataSourceCaches,
  queryAsResponse,
  queryDataSourceWithCache,
  type RawDataSourceResult,
  type Scope,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

interface Row {
  readonly practice_uid: number;
  readonly measure_value: number;
}
declare function run(): Promise<{ data: Row[]; query_time_ms: number; truncated: boolean }>;

export async function chart(organizations: string[]): Promise<number> {
  const result = await queryDataSourceWithCache(
    { dataSourceId: 3, end_date: '2026-11-20' },
    organizations,
    run,
  );
  expectType<readonly Row[]>()(result.data);
  expectType<boolean>()(result.truncated);
  expectType<boolean>()(result.fromCache);
  expectType<string>()(result.cacheKey);
  expectType<Promise<InvalidationResult>>()(invalidateDataSourceCache(result.cacheKey));
  // @ts-expect-error: read-only
  result.fromCache = false;
  return result.query_time_ms + Date.parse(result.expires_at) - Date.parse(result.cached_at);
}
// Without a time of its own it is measured.
expectType<Promise<DataSourceResult<{ data: number[] }>>>()(
  queryDataSourceWithCache({}, null, async () => ({ data: [1] }), true),
);
expectType<Promise<RawDataSourceResult>>()(queryDataSourceWithCache({}, [], run, false, { raw: true }));
check<Same<RawDataSourceResult['json'], Buffer>>();
check<Same<DataSourceOptions['scopeKey'], string | Scope | undefined>>();
expectType<Promise<Response>>()(
  queryAsResponse(new Request('http://x/'), {}, [], run, { forceRefresh: true, timeZone: 'Europe/Berlin' }),
);
// What a caller accepts of old results.
const patient = { staleMs: 300_000, earlyRefresh: true } satisfies DataSourceOptions;
const beta = { earlyRefresh: { beta: 2 } } satisfies DataSourceOptions;
expectType<Promise<DataSourceResult<{ data: number[] }>>>()(
  queryDataSourceWithCache({}, [], async () => ({ data: [1] }), false, patient),
);
expectType<Promise<Response>>()(
  queryAsResponse(new Request('http://x/'), {}, [], run, { ...patient, ...beta }),
);
check<Same<DataSourceResult<{ data: [] }>['stale'], boolean | undefined>>();
check<Same<RawDataSourceResult['stale'], boolean | undefined>>();
expectType<DataSourceMetrics>()(getMetrics().dataSources);
// @ts-expect-error: a number is not a switch
void queryDataSourceWithCache({}, [], run, false, { earlyRefresh: 2 });
// @ts-expect-error: milliseconds
void queryDataSourceWithCache({}, [], run, false, { staleMs: '5m' });
expectType<Promise<InvalidationResult>>()(invalidateDataSourceCaches(3));
expectType<Promise<InvalidationResult>>()(createEngine().invalidateDataSourceCaches('3'));
// @ts-expect-error: rows are expected
void queryDataSourceWithCache({}, [], async () => ({ rows: [] }));
// @ts-expect-error: a response is never parsed
void queryAsResponse(new Request('http://x/'), {}, [], run, { raw: false });
