/**
 * Statistics of all data sources as an administrator reads them: each with its health, all in sum, and what to do. Pure.
 * Invariant: what is not known is null or says so; nothing is a constant.
 */

import type * as Public from '../../index.js';
import { calculateCacheHealth } from './score.js';
import type { NamedStats } from './service.js';

export function metricsOf(stats: NamedStats): Public.DatasourceCacheMetrics {
  const measured = {
    datasourceId: stats.datasourceId,
    datasourceName: stats.datasourceName,
    isWarm: stats.isWarm,
    lastWarmed: stats.lastWarmed,
    // What was never warmed has no age: null, which the score counts as too old.
    ageMinutes: stats.ageSeconds === null ? null : stats.ageSeconds / 60,
    totalEntries: stats.totalEntries,
    indexCount: stats.indexCount,
    estimatedMemoryMB: stats.estimatedMemoryMB,
    uniqueMeasures: stats.uniqueMeasures,
    uniquePractices: stats.uniquePractices,
    uniqueProviders: stats.uniqueProviders,
    uniqueFrequencies: [...stats.uniqueFrequencies],
    avgQueryTimeMs: stats.avgMs,
    cacheHitRate: stats.hitRate === null ? null : stats.hitRate * 100,
    totalQueries: stats.queries,
  };
  const health = stats.isWarm ? calculateCacheHealth(measured).health : 'cold';
  return { ...measured, health, warnings: warnings(stats) };
}

function warnings(stats: NamedStats): string[] {
  const all: string[] = [];
  if (stats.state === 'unknown')
    all.push('the store does not answer, so nothing is known of this data source');
  if (stats.state === 'quarantined')
    all.push('a generation held rows it should not; the source answers until the next warm');
  if (stats.held !== null) all.push(`a generation waits for approval: ${stats.held.because.join('; ')}`);
  const hours = stats.ageSeconds === null ? 0 : stats.ageSeconds / 3_600;
  if (stats.isWarm && hours >= 6) all.push(`warmed ${hours.toFixed(1)} hours ago`);
  if (stats.hitRate !== null && stats.queries >= 20 && stats.hitRate < 0.9)
    all.push(`${((1 - stats.hitRate) * 100).toFixed(1)} % of the questions went to the source`);
  return all;
}

export function summaryOf(
  datasources: readonly Public.DatasourceCacheMetrics[],
): Public.AnalyticsCacheSummary {
  const sum = (of: (one: Public.DatasourceCacheMetrics) => number) =>
    datasources.reduce((total, one) => total + of(one), 0);
  const warm = datasources.filter((one) => one.isWarm).length;
  const queries = sum((one) => one.totalQueries);
  const hits = sum((one) => ((one.cacheHitRate ?? 0) / 100) * one.totalQueries);
  return {
    totalDatasources: datasources.length,
    warmDatasources: warm,
    coldDatasources: datasources.length - warm,
    totalCacheEntries: sum((one) => one.totalEntries),
    totalIndexes: sum((one) => one.indexCount),
    totalMemoryMB: Math.round(sum((one) => one.estimatedMemoryMB) * 100) / 100,
    overallCacheHitRate: queries === 0 ? null : (hits / queries) * 100,
  };
}

/** Its health now: a share of questions that nobody has asked yet does not count against it. */
function present(stats: NamedStats): Public.DatasourceCacheMetrics['health'] {
  const metrics = metricsOf(stats);
  if (!stats.isWarm || stats.queries > 0) return metrics.health;
  return calculateCacheHealth({ ...metrics, cacheHitRate: 100 }).health;
}

type Issue = Public.AnalyticsCacheHealth['issues'][number];

export function healthOf(stats: readonly NamedStats[]): Public.AnalyticsCacheHealth {
  const metrics = stats.map((one) => ({ ...metricsOf(one), health: present(one) }));
  const issues = stats.flatMap((one, at) => issuesOf(one, metrics[at] as Public.DatasourceCacheMetrics));
  const errors = issues.filter((issue) => issue.severity === 'error').length;
  const healths = metrics.map((one) => one.health);
  const overall =
    errors > 0 || (healths.length > 0 && healths.every((health) => health === 'cold'))
      ? 'critical'
      : healths.some((health) => health === 'degraded' || health === 'stale' || health === 'cold')
        ? 'degraded'
        : healths.some((health) => health === 'good')
          ? 'good'
          : 'excellent';
  return { overall, issues, recommendations: [...new Set(issues.map((issue) => issue.recommendation))] };
}

function issuesOf(stats: NamedStats, { health, warnings: told }: Public.DatasourceCacheMetrics): Issue[] {
  const { datasourceId, datasourceName } = stats;
  const issue = (severity: Issue['severity'], words: string, recommendation: string): Issue => ({
    datasourceId,
    datasourceName,
    severity,
    issue: words,
    recommendation,
  });
  switch (stats.state) {
    case 'unknown':
      return told.map((words) => issue('error', words, 'look at the health of the store'));
    case 'quarantined':
      return told.map((words) => issue('error', words, 'call warmCache, and look for the reason in the log'));
    case 'cold':
      return [issue('warning', 'not warm: the source answers', 'call warmCache')];
    case 'held':
    case 'live':
      break;
  }
  const advice = stats.held === null ? 'call warmCache more often' : 'call approve or discard';
  const all = told.map((words) => issue('warning', words, advice));
  if (all.length === 0 && (health === 'degraded' || health === 'stale'))
    all.push(issue('warning', `its health is ${health}`, advice));
  return all;
}
