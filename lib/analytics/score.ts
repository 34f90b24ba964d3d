/**
 * How well a data source is cached, as one number and one word. Not a measurement: what goes in was measured elsewhere.
 * Invariant: what is not known scores nothing; an age that is missing, infinite or no number is not a young one.
 */

import type * as Public from '../../index.js';

/** Below so many minutes, so many points. 240 is the life of an entry. */
const AGES: readonly (readonly [minutes: number, points: number])[] = [
  [60, 40],
  [120, 35],
  [240, 30],
  [360, 20],
  [720, 10],
];

/** From so many percent on, so many points. */
const HIT_RATES: readonly (readonly [percent: number, points: number])[] = [
  [95, 40],
  [90, 35],
  [80, 30],
  [70, 20],
  [50, 10],
];

const HEALTH: readonly (readonly [score: number, health: Public.DatasourceCacheHealth])[] = [
  [90, 'excellent'],
  [75, 'good'],
  [50, 'degraded'],
  [25, 'stale'],
];

export const calculateCacheHealth: typeof Public.calculateCacheHealth = (metrics) => {
  const age = known(metrics.ageMinutes, Number.POSITIVE_INFINITY);
  const hitRate = known(metrics.cacheHitRate, 0);
  const score =
    (AGES.find(([minutes]) => age < minutes)?.[1] ?? 0) +
    (HIT_RATES.find(([percent]) => hitRate >= percent)?.[1] ?? 0) +
    (known(metrics.uniqueMeasures, 0) > 0 ? 10 : 0) +
    (known(metrics.uniquePractices, 0) > 0 ? 10 : 0);
  return { health: HEALTH.find(([least]) => score >= least)?.[1] ?? 'cold', score };
};

/** A number, or what counts instead: null compares as zero and would make the youngest age of none. */
function known(value: unknown, otherwise: number): number {
  return typeof value === 'number' && !Number.isNaN(value) ? value : otherwise;
}
