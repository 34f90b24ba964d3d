/**
 * Questions to the analytics index on their way across: what is written, and what is refused before it crosses. Not what a
 * question means: that is judged in Rust (`crates/core/src/analytics/asked`).
 */
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { aggregateText, dataSourceId, filtersText } from '../lib/analytics/filters.js';
import { calculateCacheHealth } from '../lib/analytics/score.js';
import { ALL, NOTHING, rows } from '../lib/scope.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

type Given = Parameters<typeof filtersText>[0];
const asked = (filters: object): unknown => JSON.parse(filtersText({ datasourceId: 1, ...filters } as Given));
const grouped = (question: object): unknown =>
  JSON.parse(aggregateText({ datasourceId: 1, metrics: [], ...question } as never));
const refusal = (call: () => unknown): unknown => {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was refused');
};
const condition = (value: unknown, operator: unknown = 'eq') => ({
  advancedFilters: [{ field: 'a', operator, value }],
});

describe('a question', () => {
  it('crosses as it was asked', () => {
    const filters = {
      measure: 'Char"ges',
      frequency: 'Monthly',
      practiceUids: [1, 0, -1, 2n ** 63n - 1n],
      providerUids: [],
      startDate: '2024-01-01',
      endDate: new Date(Date.UTC(2024, 11, 31, 5)),
      advancedFilters: [
        { field: 'measure_value', operator: 'gt', value: 0.1 },
        { field: 'measure_value', operator: 'in', value: [10n ** 37n, '12.50', null, true] },
        { field: 'made_at', operator: 'between', value: [new Date(0), '2024-01-01T00:00:00Z'] },
      ],
      columns: ['date_index', '__proto__'],
      scope: rows([3, 4], [0]),
    };
    expect(asked(filters)).toEqual({
      datasourceId: 1,
      measure: 'Char"ges',
      frequency: 'Monthly',
      practiceUids: [1, 0, -1, { $bigint: '9223372036854775807' }],
      providerUids: [],
      startDate: '2024-01-01',
      endDate: '2024-12-31T05:00:00.000Z',
      advancedFilters: [
        { field: 'measure_value', operator: 'gt', value: 0.1 },
        {
          field: 'measure_value',
          operator: 'in',
          value: [{ $bigint: '10000000000000000000000000000000000000' }, '12.50', null, true],
        },
        {
          field: 'made_at',
          operator: 'between',
          value: ['1970-01-01T00:00:00.000Z', '2024-01-01T00:00:00Z'],
        },
      ],
      columns: ['date_index', '__proto__'],
      scope: { kind: 'rows', practices: [3, 4], providers: [0] },
    });
  });

  it('has nothing in it that was left out', () => {
    const nothing = {
      measure: undefined,
      practiceUids: undefined,
      advancedFilters: undefined,
      columns: undefined,
    };
    expect(asked(nothing)).toEqual({ datasourceId: 1 });
    expect(asked({ scope: NOTHING })).toEqual({
      datasourceId: 1,
      scope: { kind: 'nothing', practices: [], providers: [] },
    });
    expect(asked({ scope: ALL })).toEqual({
      datasourceId: 1,
      scope: { kind: 'all', practices: [], providers: null },
    });
  });

  it('for groups has columns, units and metrics', () => {
    const question = {
      groupBy: ['practice_uid', { column: 'date_index', unit: 'month' }],
      dateTrunc: 'year',
      metrics: [{ function: 'count' }, { function: 'sum', column: 'measure_value', as: 'total' }],
    };
    expect(grouped(question)).toEqual({ datasourceId: 1, ...question });
  });

  it('takes dates and lists of other realms', () => {
    const foreign = runInNewContext('({ startDate: new Date(0), practiceUids: [1] })') as object;
    expect(asked(foreign)).toMatchObject({ startDate: '1970-01-01T00:00:00.000Z', practiceUids: [1] });
  });

  it('is written from what was checked, whatever changes in between', () => {
    let reads = 0;
    const turning = {
      datasourceId: 1,
      get practiceUids() {
        reads += 1;
        return reads === 1 ? [1] : undefined;
      },
    };
    expect(JSON.parse(filtersText(turning))).toEqual({ datasourceId: 1, practiceUids: [1] });
    expect(reads).toBe(1);
  });
});

describe('refused, with the place', () => {
  const holes = Array(2);
  const shown = (given: object) =>
    inspect(given, { maxArrayLength: 3, breakLength: Number.POSITIVE_INFINITY });
  const cases: readonly (readonly [filters: object, field: string])[] = [
    [{ practiceUid: [1] }, 'practiceUid'],
    [{ datasourceId: '1' }, 'datasourceId'],
    [{ datasourceId: 1.5 }, 'datasourceId'],
    [{ datasourceId: undefined }, 'datasourceId'],
    [{ measure: null }, 'measure'],
    [{ measure: '\ud800' }, 'measure'],
    [{ practiceUids: null }, 'practiceUids'],
    [{ practiceUids: '1' }, 'practiceUids'],
    [{ practiceUids: { length: 0 } }, 'practiceUids'],
    [{ practiceUids: [1, '2'] }, 'practiceUids[1]'],
    [{ practiceUids: [2 ** 53] }, 'practiceUids[0]'],
    [{ practiceUids: [2n ** 63n] }, 'practiceUids[0]'],
    [{ practiceUids: [Number.NaN] }, 'practiceUids[0]'],
    [{ practiceUids: holes }, 'practiceUids[0]'],
    [{ providerUids: [null] }, 'providerUids[0]'],
    [{ providerUids: Array(100_001).fill(1) }, 'providerUids'],
    [{ startDate: new Date(Number.NaN) }, 'startDate'],
    [{ startDate: 20_240_101 }, 'startDate'],
    [{ endDate: null }, 'endDate'],
    [{ columns: 'date_index' }, 'columns'],
    [{ columns: [1] }, 'columns[0]'],
    [{ advancedFilters: {} }, 'advancedFilters'],
    [{ advancedFilters: [null] }, 'advancedFilters[0]'],
    [{ advancedFilters: [{ field: 'a', operator: 'eq', values: 1 }] }, 'advancedFilters[0].values'],
    [{ advancedFilters: [{ field: 'a', operator: 'eq' }] }, 'advancedFilters[0].value'],
    [{ advancedFilters: [{ operator: 'eq', value: 1 }] }, 'advancedFilters[0].field'],
    [condition(1, 1), 'advancedFilters[0].operator'],
    [condition(undefined), 'advancedFilters[0].value'],
    [condition({}), 'advancedFilters[0].value'],
    [condition({ $bigint: '1' }), 'advancedFilters[0].value'],
    [condition(Number.POSITIVE_INFINITY), 'advancedFilters[0].value'],
    [condition(10n ** 38n), 'advancedFilters[0].value'],
    [condition(Symbol('a')), 'advancedFilters[0].value'],
    [condition([1, [2]], 'in'), 'advancedFilters[0].value[1]'],
    [condition([1, undefined], 'in'), 'advancedFilters[0].value[1]'],
    [condition(new Date(Number.NaN)), 'advancedFilters[0].value'],
    [{ groupBy: ['a'] }, 'groupBy'],
  ];
  it.each(cases.map(([filters, field]) => [shown(filters), filters, field] as const))(
    '%s',
    (_, filters, field) => {
      const error = refusal(() => asked(filters));
      expect(error).toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
      expect((error as Error).message).toMatch(
        new RegExp(`^${field.replace(/[[\].]/g, '\\$&')} is not accepted: `),
      );
    },
  );

  it.each<[question: object, field: string]>([
    [{ metrics: undefined }, 'metrics'],
    [{ columns: ['a'] }, 'columns'],
    [{ groupBy: [1] }, 'groupBy[0]'],
    [{ groupBy: [{ unit: 'month' }] }, 'groupBy[0].column'],
    [{ groupBy: [{ column: 'a', units: 'month' }] }, 'groupBy[0].units'],
    [{ metrics: ['count'] }, 'metrics[0]'],
    [{ metrics: [{ column: 'a' }] }, 'metrics[0].function'],
    [{ dateTrunc: 1 }, 'dateTrunc'],
  ])('of groups: %j', (question, field) => {
    expect(refusal(() => grouped(question))).toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
  });

  it('what is no object', () => {
    for (const filters of [undefined, null, 1, 'a', [], () => 1]) {
      expect(refusal(() => filtersText(filters as never))).toMatchObject({ code: 'E_INVALID_ARGUMENT' });
      expect(refusal(() => aggregateText(filters as never))).toMatchObject({ code: 'E_INVALID_ARGUMENT' });
    }
    for (const id of [undefined, null, '1', 1.5, Number.NaN, 2 ** 53, 1n]) {
      expect(refusal(() => dataSourceId(id))).toMatchObject({ field: 'datasourceId' });
    }
    expect(dataSourceId(0)).toBe(0);
  });

  it('a scope that scopeOf has not made, or that was lost on the way', () => {
    const copy = { kind: 'all', practices: [], providers: null };
    const heir = Object.create(ALL) as object;
    for (const scope of [copy, { ...ALL }, heir, new Proxy(ALL, {}), null, 'all', undefined, [], 1]) {
      expect(refusal(() => asked({ scope }))).toMatchObject({ code: 'E_SCOPE', field: 'scope' });
      expect(refusal(() => grouped({ scope }))).toMatchObject({ code: 'E_SCOPE', field: 'scope' });
    }
  });

  it('whatever else is given: an error of this package or JSON, and never more than was asked for', () => {
    const names = [
      'measure',
      'practiceUids',
      'startDate',
      'advancedFilters',
      'columns',
      'x',
      'field',
      'value',
      '$bigint',
    ];
    const leaf = [
      null,
      undefined,
      1,
      -0,
      'a',
      '\udc00',
      true,
      1n,
      Number.NaN,
      new Date(0),
      Symbol('s'),
      () => 1,
    ];
    const value = (random: Random, depth: number): unknown => {
      if (depth === 0 || random.chance(0.4)) return random.of(leaf);
      const inner = Array.from({ length: random.upTo(3) }, () => value(random, depth - 1));
      return random.chance(0.5) ? inner : Object.fromEntries(inner.map((one) => [random.of(names), one]));
    };
    for (let round = 0; round < rounds(20_000, 4_000); round += 1) {
      const random = new Random(20_267, round);
      const filters = { [random.of(names)]: value(random, 3), scope: rows([1], null) };
      let written: unknown;
      try {
        written = asked(filters);
      } catch (error) {
        expect(error, `round ${round}`).toMatchObject({ code: 'E_INVALID_ARGUMENT' });
        continue;
      }
      expect(written).toMatchObject({ scope: { kind: 'rows', practices: [1], providers: null } });
    }
  });
});

describe('the health of a data source', () => {
  const best = { ageMinutes: 0, cacheHitRate: 100, uniqueMeasures: 1, uniquePractices: 1 };
  const of = (more: object) => calculateCacheHealth({ ...best, ...more });

  it.each<[more: object, score: number, health: string]>([
    [{}, 100, 'excellent'],
    [{ ageMinutes: 59.99 }, 100, 'excellent'],
    [{ ageMinutes: 60 }, 95, 'excellent'],
    [{ ageMinutes: 120 }, 90, 'excellent'],
    [{ ageMinutes: 240 }, 80, 'good'],
    [{ ageMinutes: 360 }, 70, 'degraded'],
    [{ ageMinutes: 720 }, 60, 'degraded'],
    [{ cacheHitRate: 94.9 }, 95, 'excellent'],
    [{ cacheHitRate: 89.9 }, 90, 'excellent'],
    [{ cacheHitRate: 79.9 }, 80, 'good'],
    [{ cacheHitRate: 69.9 }, 70, 'degraded'],
    [{ cacheHitRate: 49.9 }, 60, 'degraded'],
    [{ uniqueMeasures: 0, uniquePractices: 0, cacheHitRate: 0 }, 40, 'stale'],
    [{ uniqueMeasures: 0, uniquePractices: 0, cacheHitRate: 50, ageMinutes: 720 }, 10, 'cold'],
    [{ uniqueMeasures: 0, uniquePractices: 0, cacheHitRate: 0, ageMinutes: 720 }, 0, 'cold'],
    [{ ageMinutes: 240, cacheHitRate: 94 }, 75, 'good'],
    [{ ageMinutes: 360, cacheHitRate: 94 }, 65, 'degraded'],
    [{ ageMinutes: 720, cacheHitRate: 50, uniquePractices: 0 }, 20, 'cold'],
    [{ ageMinutes: 720, cacheHitRate: 50 }, 30, 'stale'],
    [{ ageMinutes: 239, cacheHitRate: 0 }, 50, 'degraded'],
    [{ ageMinutes: 240, cacheHitRate: 0 }, 40, 'stale'],
  ])('%j', (more, score, health) => {
    expect(of(more)).toEqual({ score, health });
  });

  it('what is not known scores nothing', () => {
    for (const unknown of [null, undefined, Number.NaN, Number.POSITIVE_INFINITY, '5']) {
      expect(of({ ageMinutes: unknown }).score, String(unknown)).toBe(60);
    }
    for (const unknown of [null, undefined, Number.NaN, '100']) {
      expect(of({ cacheHitRate: unknown }).score, String(unknown)).toBe(60);
      expect(of({ uniqueMeasures: unknown }).score, String(unknown)).toBe(90);
    }
  });
});
