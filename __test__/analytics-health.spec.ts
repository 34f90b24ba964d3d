/**
 * Statistics and health of data sources: what is made of figures, and figures of a real data source.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2, type Engine } from '../index.js';
import { healthOf, metricsOf, summaryOf } from '../lib/analytics/health.js';
import type { NamedStats } from '../lib/analytics/service.js';
import { type Server, startValkey } from './servers/index.mjs';
import { createTable, insertRows, type Row, type Table } from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines } from './support/engines.js';

const MINUTE = 60;

const TABLE: Table = {
  dataSource: 21,
  name: 'told_of',
  frequency: 'frequency',
  date: 'date_index',
  columns: [
    { name: 'practice_uid', kind: 'int', sql: 'integer' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'frequency', kind: 'text', sql: 'text', flag: 'is_time_period' },
    { name: 'date_index', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'measure_value', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
  ],
};
/** Three practices, each with a provider and without. */
const ROWS: Row[] = Array.from({ length: 24 }, (_, n) => ({
  practice_uid: n % 3,
  provider_uid: n % 2 === 0 ? 5 : null,
  measure: 'Charges',
  frequency: 'Monthly',
  date_index: `2024-${String(1 + Math.floor(n / 6)).padStart(2, '0')}-01`,
  measure_value: String(n),
}));

const warm = (more: Partial<NamedStats> = {}): NamedStats => ({
  datasourceId: 1,
  datasourceName: 'Measures',
  state: 'live',
  isWarm: true,
  lastWarmed: '2026-01-01T00:00:00.000Z',
  ageSeconds: 5 * MINUTE,
  generation: 7,
  totalEntries: 100,
  indexCount: 1,
  estimatedMemoryMB: 2.5,
  rows: 5_000,
  frames: 5,
  dataBytes: 2_000_000,
  indexBytes: 60_000,
  uniqueMeasures: 12,
  uniquePractices: 100,
  uniqueProviders: 400,
  uniqueFrequencies: ['Monthly'],
  warmDurationMs: 1_500,
  previousGeneration: null,
  held: null,
  nearBytes: 0,
  version: 'v2',
  queries: 200,
  nearHits: 190,
  storeHits: 10,
  sourceReads: 0,
  sourceReasons: {},
  hitRate: 1,
  avgMs: 1,
  p50Ms: 1,
  p99Ms: 4,
  ...more,
});

const cold = (more: Partial<NamedStats> = {}): NamedStats =>
  warm({
    datasourceId: 3,
    datasourceName: 'Chart data',
    state: 'cold',
    isWarm: false,
    lastWarmed: null,
    ageSeconds: null,
    generation: null,
    totalEntries: 0,
    indexCount: 0,
    estimatedMemoryMB: 0,
    uniqueMeasures: 0,
    uniquePractices: 0,
    uniqueFrequencies: [],
    queries: 0,
    hitRate: null,
    avgMs: null,
    ...more,
  });

describe('metrics of a data source', () => {
  it('are those that were measured', () => {
    expect(metricsOf(warm())).toMatchObject({
      ageMinutes: 5,
      cacheHitRate: 100,
      health: 'excellent',
      warnings: [],
    });
    expect(metricsOf(warm({ ageSeconds: 7 * 3_600, hitRate: 0.85 }))).toMatchObject({
      health: 'degraded',
      warnings: ['warmed 7.0 hours ago', '15.0 % of the questions went to the source'],
    });
  });

  it('of a cold one say that it is cold, and invent nothing', () => {
    expect(metricsOf(cold())).toMatchObject({
      ageMinutes: null,
      cacheHitRate: null,
      avgQueryTimeMs: null,
      health: 'cold',
    });
    expect(metricsOf(cold({ state: 'unknown' })).warnings).toHaveLength(1);
  });

  it('are summed up, hit rates by the questions behind them', () => {
    const all = [warm(), warm({ datasourceId: 2, hitRate: 0.5, queries: 600 }), cold()].map(metricsOf);
    expect(summaryOf(all)).toEqual({
      totalDatasources: 3,
      warmDatasources: 2,
      coldDatasources: 1,
      totalCacheEntries: 200,
      totalIndexes: 2,
      totalMemoryMB: 5,
      overallCacheHitRate: 62.5,
    });
    expect(summaryOf([])).toMatchObject({ totalDatasources: 0, overallCacheHitRate: null });
  });
});

describe('health of all', () => {
  const overall = (...all: NamedStats[]) => healthOf(all).overall;

  it('is as good as the worst of what can be mended, and critical when nothing answers or lies', () => {
    expect(overall(warm())).toBe('excellent');
    expect(overall(warm(), warm({ ageSeconds: 200 * MINUTE, hitRate: 0.9 }))).toBe('good');
    expect(overall(warm(), cold())).toBe('degraded');
    expect(overall(cold())).toBe('critical');
    expect(overall(warm(), warm({ state: 'quarantined', isWarm: false }))).toBe('critical');
    expect(overall(warm(), cold({ state: 'unknown' }))).toBe('critical');
    expect(overall()).toBe('excellent');
  });

  it('does not hold against a fresh one that nobody has asked it yet', () => {
    expect(healthOf([warm({ queries: 0, hitRate: null, avgMs: null })])).toEqual({
      overall: 'excellent',
      issues: [],
      recommendations: [],
    });
  });

  it('says what is wrong and what to do, once', () => {
    const held = { rows: 10, because: ['40 % fewer rows'] };
    const { issues, recommendations } = healthOf([cold(), cold({ datasourceId: 4 }), warm({ held })]);
    expect(issues.map(({ datasourceId, severity }) => [datasourceId, severity])).toEqual([
      [3, 'warning'],
      [4, 'warning'],
      [1, 'warning'],
    ]);
    expect(issues[2]?.issue).toContain('40 % fewer rows');
    expect(recommendations).toEqual(['call warmCache', 'call approve or discard']);
  });
});

describe('a real data source', () => {
  const engines = new Engines();
  let databases: Databases;
  let db: Database;
  let server: Server;
  let engine: Engine;
  let cache: AnalyticsCacheV2;

  beforeAll(async () => {
    [databases, server] = await Promise.all([Databases.start(), startValkey()]);
    db = await databases.create();
    await createTable(db, TABLE);
    await insertRows(db, TABLE, ROWS);
    engine = engines.start({ redisHost: server.host, redisPort: server.port, databaseUrl: db.url });
    cache = new AnalyticsCacheV2(engine);
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await server?.stop();
    await databases?.[Symbol.asyncDispose]();
  });

  const question = { datasourceId: 21, measure: 'Charges' } as const;

  it('is cold, then warm, and its figures are those of the table and of the questions', async () => {
    expect(await engine.getAnalyticsCacheHealth()).toMatchObject({
      overall: 'critical',
      recommendations: ['call warmCache'],
    });
    await cache.query(question);
    expect(await cache.getCacheStats(21)).toMatchObject({
      state: 'cold',
      isWarm: false,
      queries: 1,
      hitRate: 0,
      sourceReasons: { cold: 1 },
    });
    expect([await cache.isCacheWarm(21), await cache.getLastWarmedTime(21)]).toEqual([false, null]);

    const from = Date.now();
    await cache.warmCache(21);
    for (let round = 0; round < 3; round += 1) expect(await cache.query(question)).toHaveLength(ROWS.length);
    const stats = await cache.getCacheStats(21);
    expect(stats).toMatchObject({
      datasourceId: 21,
      state: 'live',
      isWarm: true,
      version: 'v2',
      rows: ROWS.length,
      totalEntries: 6,
      uniqueMeasures: 1,
      uniquePractices: 3,
      uniqueProviders: 1,
      uniqueFrequencies: ['Monthly'],
      queries: 4,
      sourceReads: 1,
      hitRate: 0.75,
      previousGeneration: null,
      held: null,
    });
    expect(stats.dataBytes).toBeGreaterThan(0);
    expect(stats.indexBytes).toBeGreaterThan(0);
    const at = Date.parse((await cache.getLastWarmedTime(21)) as string);
    expect(at >= from - 1_000 && at <= Date.now() + 1_000).toBe(true);
    const { summary, datasources } = await engine.getAnalyticsCacheStats();
    expect(datasources).toEqual([
      expect.objectContaining({
        datasourceId: 21,
        datasourceName: expect.any(String),
        isWarm: true,
        cacheHitRate: 75,
      }),
    ]);
    expect(summary).toMatchObject({
      totalDatasources: 1,
      warmDatasources: 1,
      totalCacheEntries: 6,
      overallCacheHitRate: 75,
    });
  });

  it('is unknown while the store is gone, not cold and not warm', async () => {
    await server.pause();
    try {
      expect(await cache.getCacheStats(21)).toMatchObject({
        state: 'unknown',
        isWarm: false,
        ageSeconds: null,
      });
      await expect(cache.isCacheWarm(21)).rejects.toMatchObject({ code: 'E_STORE_UNAVAILABLE' });
      expect(await engine.getAnalyticsCacheHealth()).toMatchObject({
        overall: 'critical',
        issues: [{ severity: 'error' }],
      });
    } finally {
      await server.resume();
    }
  });
});
