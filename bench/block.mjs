/**
 * How long a call keeps everybody else waiting: the longest turn of the event loop between its start and the turn after
 * its answer. Not how long the call takes: while it waits for the store, the loop turns in microseconds.
 *
 * The probe is an immediate that asks for the next one: a loop that has an immediate does not sleep, and runs it once per
 * turn, so two of them are one turn apart: all that ran in between - callbacks, microtasks, garbage collections - and what
 * the system took away. It is finer than `monitorEventLoopDelay`, whose timer sees nothing below a millisecond. A turn of
 * nothing is the floor of every figure. A loop that never sleeps reads a large reply in smaller pieces than one that was
 * asleep: that is in favour of whoever reads it on this thread.
 * Invariant: the same probe for everybody, in rounds of their own, by turns; what checks an answer runs while nobody looks.
 */

import { setImmediate as immediate } from 'node:timers/promises';
import { collectGarbage, median } from './measure.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */
/** @typedef {import('./measure.mjs').Plan} Plan */

/** After the answer: what a call has left to be done belongs to it. */
const TURNS_AFTER = 2;

/**
 * Runs `call` and watches the loop meanwhile.
 * @template T
 * @param {() => Promise<T>} call
 * @returns {Promise<{ longestMs: number, answer: T }>}
 */
async function watched(call) {
  let longestMs = 0;
  let after = -1;
  // From an immediate, as the probe itself: what runs before the first await of the call is in its first turn.
  await immediate();
  let last = performance.now();
  const end = new Promise((resolve) => {
    const turn = () => {
      const now = performance.now();
      longestMs = Math.max(longestMs, now - last);
      last = now;
      if (after < 0 || after-- > 0) setImmediate(turn);
      else resolve(undefined);
    };
    setImmediate(turn);
  });
  try {
    const answer = await call();
    after = TURNS_AFTER;
    await end;
    return { longestMs, answer };
  } finally {
    after = Math.max(after, 0);
  }
}

/** @param {Variant} variant @param {Plan} plan @param {boolean} once whether a key may be asked only once per round */
async function round({ name, call, right, prepare }, { concurrency, keys, roundMs }, once) {
  await prepare?.();
  const longest = [];
  const end = performance.now() + roundMs;
  let asked = 0;
  let more = true;
  while (more) {
    const indexes = Array.from({ length: concurrency }, () => asked++ % keys);
    const { longestMs, answer } = await watched(() => Promise.all(indexes.map(call)));
    longest.push(longestMs);
    more = performance.now() < end && !(once && asked + concurrency > keys);
    if (more) continue;
    const wrong = indexes.findIndex((index, at) => !right(answer[at], index));
    if (wrong >= 0) throw new Error(`wrong answer of "${name}" for key ${indexes[wrong]}`);
  }
  return longest;
}

/**
 * For each variant, per call (or per so many at once): the median of the longest turns, and the longest of all.
 * @param {Variant[]} variants @param {Plan} plan @param {boolean} once
 * @returns {Promise<Record<string, number>[]>} in the order of the variants
 */
export async function blocks(variants, plan, once) {
  const longest = variants.map(() => /** @type {number[]} */ ([]));
  collectGarbage();
  for (let turn = 0; turn < plan.rounds; turn += 1) {
    for (const [at, variant] of variants.entries()) longest[at]?.push(...(await round(variant, plan, once)));
  }
  return longest.map((all) => ({
    'block us, median': median(all) * 1_000,
    'block us, longest': Math.max(...all) * 1_000,
  }));
}
