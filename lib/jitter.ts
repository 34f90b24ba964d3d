/**
 * Lifetimes that do not end together: what was loaded in one moment would be loaded again in one moment, by every
 * process. Not a clock and not a source of chance: the random number is given.
 * Invariant: a shortened lifetime is below the promised one and never below 95 % of it.
 */

/** Even the longest ends a little early: an entry begins to live when it has arrived, not when it was loaded. */
const LEAST = 0.01;
const MOST = 0.05;

/** A whole number of milliseconds for a lifetime of `ttlMs`; `random` is at least 0 and below 1. */
export function shortened(ttlMs: number, random: number): number {
  const share = LEAST + (MOST - LEAST) * random;
  // There is nothing below a millisecond but no life at all.
  return Math.max(1, Math.floor(ttlMs - ttlMs * share));
}
