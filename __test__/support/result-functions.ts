/**
 * The functions about results of data sources, for the table of `functions.ts`. The query's answer arrives whatever is
 * broken. Invariant: as there, no call changes what is true.
 */
import { randomUUID } from 'node:crypto';
import type { DataSourceResult } from '../../index.js';
import type { Row } from './functions.js';

const isInvalidation = (value: unknown): boolean => {
  const { acknowledged, queued } = value as { acknowledged: boolean; queued: boolean };
  return acknowledged !== queued;
};

const dataSourceId = randomUUID();

export const resultFunctions: readonly Row[] = [
  {
    name: 'queryDataSourceWithCache',
    of: 'a query that answers',
    asks: 'cache',
    call: (engine) =>
      engine.queryDataSourceWithCache({ dataSourceId }, ['a'], async () => ({ data: [1, 2] })),
    right: (value) => JSON.stringify((value as DataSourceResult<{ data: number[] }>).data) === '[1,2]',
  },
  {
    name: 'queryDataSourceWithCache',
    of: 'a query that is also run in the background',
    asks: 'cache',
    call: async (engine) => {
      let ran = 0;
      const query = async () => {
        ran += 1;
        return { data: [1, 2] };
      };
      const options = { staleMs: 60_000, earlyRefresh: { beta: 1e9 } };
      const params = { dataSourceId, early: true };
      const result = await engine.queryDataSourceWithCache(params, ['a'], query, false, options);
      return [...result.data, result.fromCache ? ran <= 1 : ran === 1, result.stale];
    },
    right: (value) => JSON.stringify(value) === '[1,2,true,false]',
  },
  {
    name: 'queryDataSourceWithCache',
    of: 'a query that throws',
    asks: 'cache',
    call: (engine) => {
      const query = async (): Promise<{ data: [] }> => {
        throw new RangeError('no');
      };
      const asked = engine.queryDataSourceWithCache({ dataSourceId: randomUUID() }, ['a'], query);
      return asked.catch((error: unknown) => error instanceof RangeError && error.message);
    },
    right: (value) => value === 'no',
  },
  {
    name: 'queryDataSourceWithCache',
    of: 'a refresh',
    asks: 'invalidation',
    call: async (engine) => {
      let ran = 0;
      const query = async () => {
        ran += 1;
        return { data: [ran] };
      };
      const { data } = await engine.queryDataSourceWithCache({ dataSourceId: randomUUID() }, [], query, true);
      return [...data, ran];
    },
    right: (value) => JSON.stringify(value) === '[1,1]',
  },
  {
    name: 'queryAsResponse',
    of: 'a query that answers',
    asks: 'cache',
    call: async (engine) => {
      const request = { headers: new Headers() };
      const query = async () => ({ data: [1, 2] });
      const response = await engine.queryAsResponse(request, { dataSourceId }, ['a'], query);
      return [response.status, ((await response.json()) as { data: number[] }).data];
    },
    right: (value) => JSON.stringify(value) === '[200,[1,2]]',
  },
  {
    name: 'invalidateDataSourceCache',
    of: 'a result',
    asks: 'invalidation',
    call: (engine) => engine.invalidateDataSourceCache(`datasource:${randomUUID()}:${'a'.repeat(43)}`),
    right: isInvalidation,
  },
  {
    name: 'invalidateDataSourceCaches',
    of: 'a source',
    asks: 'invalidation',
    call: (engine) => engine.invalidateDataSourceCaches(randomUUID()),
    right: isInvalidation,
  },
];
