/**
 * `--only limit`: rate limits beside rate-limiter-flexible and a sliding window of two buckets on the same server: what a
 * check takes, what a limit takes in the store, how much gets through. Nothing is measured here; the parts are, one a file.
 * What each limiter does is told in `limiters.mjs`.
 */

import { limitBurst } from './limit-burst.mjs';
import { limitMemory } from './limit-memory.mjs';
import { limitSpeed } from './limit-speed.mjs';
import { FLEXIBLE, OURS } from './limiters.mjs';

/** @typedef {import('./report.mjs').Table} Table */

const AT_ONCE = 100;
const TIMES_AS_FAST = 4;

const verdict = (/** @type {boolean} */ met) => (met ? '**met**' : '**not met**');

/** How the tables stand to what is wanted. @param {Table[]} speed @param {Table} burst @returns {Table} */
function targets(speed, burst) {
  const lines = speed
    .filter(({ title, concurrency }) => concurrency === AT_ONCE && title.includes('admitted'))
    .map(({ title, rows = [] }) => {
      const of = (/** @type {string} */ name) =>
        Number(rows.find((row) => row.name === name)?.opsPerSecond ?? Number.NaN);
      const times = of(OURS) / of(FLEXIBLE);
      return `- ${title}: ${times.toFixed(2)}x ${FLEXIBLE}, wanted ${TIMES_AS_FAST}x: ${verdict(times >= TIMES_AS_FAST)}`;
    });
  const over = Object.entries(burst.values ?? {})
    .filter(([name]) => name.startsWith(OURS))
    .map(([name, admitted]) => {
      const limit = Number(/limit ([\d,]+)/.exec(name)?.[1]?.replaceAll(',', ''));
      return Math.max(0, admitted - limit);
    });
  const most = Math.max(...over);
  lines.push(`- Admitted beyond the limit in any window: ${most}, wanted 0: ${verdict(most === 0)}`);
  return { title: 'Rate limit: targets', note: lines.join('\n') };
}

/** @type {import('./report.mjs').Measurement['run']} */
export async function limit(conditions) {
  const speed = await limitSpeed(conditions);
  const memory = await limitMemory(conditions);
  const bursts = await limitBurst(conditions);
  return [...speed, ...memory, ...bursts, targets(speed, /** @type {Table} */ (bursts[0]))];
}
