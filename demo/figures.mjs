/**
 * How many measurements become a few figures. Pure; measures nothing itself.
 * Invariant: every figure is one that was measured, never one in between.
 */

/** @template T @param {T[]} list @param {(item: T) => number} of */
export const range = (list, of) => ({ min: Math.min(...list.map(of)), max: Math.max(...list.map(of)) });

/** Nearest rank. @param {number[]} values */
export function percentiles(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  return { samples: sorted.length, p50: at(0.5), p95: at(0.95), max: at(1) };
}
