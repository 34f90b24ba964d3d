/**
 * Calls that are too short to be timed one by one, by mitata: its generated loop asks for a batch between two looks at
 * the clock. One round of one variant; the turns are taken in `measure.mjs`.
 * Invariant: every variant is measured in batches of the same size, so that their quantiles mean the same.
 */

import { measure } from 'mitata';

/** Calls per look at the clock, which then costs less than a hundredth of them. */
export const BATCH = 64;

/** Of a call in microseconds; quantiles are those of means over a batch. @typedef {{ calls: number, meanUs: number, p50Us: number, p99Us: number }} Short */

/**
 * @param {import('./measure.mjs').Variant} variant @param {Pick<import('./measure.mjs').Plan, 'keys' | 'roundMs'>} plan
 * @returns {Promise<Short>}
 */
export async function short({ name, call }, { keys, roundMs }) {
  let calls = 0;
  const { avg, p50, p99, ticks, samples } = await measure(() => call(calls++ % keys), {
    min_cpu_time: roundMs * 1e6,
    batch_samples: BATCH,
    // Garbage is collected before the round, by whoever takes the turns.
    gc: false,
    // A peer that takes long is measured as the others are.
    batch_threshold: Number.MAX_SAFE_INTEGER,
    // Until one is short enough: a first call that was interrupted must not change how the others are measured.
    warmup_threshold: Number.MAX_SAFE_INTEGER,
    warmup_samples: 1_000,
  });
  if (ticks !== samples.length * BATCH) throw new Error(`"${name}" takes too long to be timed in batches`);
  return { calls, meanUs: avg / 1e3, p50Us: p50 / 1e3, p99Us: p99 / 1e3 };
}
