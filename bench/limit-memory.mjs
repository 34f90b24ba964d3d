/**
 * What a limit takes in the store per identifier: all its keys together, as the server tells. Checks are spread over most of
 * a window, because what was filled in one instant is smaller than what is in use.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { keep, range } from './data.mjs';
import { withLimiters } from './limiters.mjs';
import { median } from './measure.mjs';

/** @typedef {import('../__test__/servers/index.mjs').Server} Server */
/** @typedef {import('./limiters.mjs').Limiter} Limiter */

const LIMIT = 100;
const COARSE = 50_000;
const IDENTIFIERS = 50;
const STEPS = 20;
const WINDOW_SECONDS = 2;
/** Of the window: nothing may be over before it is looked at. */
const SPREAD = 0.7;
/** When it begins, in a bucket of the clock: two of them are in use most of the time. */
const BEGIN = 0.6;

const identifiers = (/** @type {string} */ kind) =>
  range(IDENTIFIERS).map((n) => `${kind}-${String(n).padStart(6, '0')}`);
const full = identifiers('full');
const tenth = identifiers('part');

/** @param {Limiter[]} limiters @param {number} windowMs */
async function use(limiters, windowMs) {
  await sleep((windowMs * (1 + BEGIN) - (Date.now() % windowMs)) % windowMs);
  const start = performance.now();
  for (let step = 0; step < STEPS; step += 1) {
    await sleep(Math.max(0, start + (step / STEPS) * SPREAD * windowMs - performance.now()));
    const checks = range(LIMIT / STEPS).flatMap(() => full);
    // A tenth of five, every other time.
    if (step % 2 === 0) checks.push(...tenth);
    await Promise.all(limiters.flatMap(({ check }) => checks.map(check)));
  }
}

/** @param {Server} server @param {Limiter} limiter @param {string[]} among */
async function bytes(server, { prefix }, among) {
  const keys = /** @type {string[]} */ (await server.command('KEYS', `${prefix}:*`));
  const sums = new Map(among.map((one) => [one, 0]));
  for (const key of keys) {
    const whose = among.find((one) => key.includes(one));
    if (whose === undefined) continue;
    const used = Number(await server.command('MEMORY', 'USAGE', key));
    sums.set(whose, used + Number(sums.get(whose)));
  }
  return median([...sums.values()]);
}

/** @type {import('./report.mjs').Measurement['run']} */
export function limitMemory({ server, progress }) {
  progress('rate limit: bytes per identifier');
  const rule = { type: 'mem', limit: LIMIT, windowSeconds: WINDOW_SECONDS };
  return withLimiters(server, async (makers) => {
    const coarse = makers.ours({ ...rule, type: 'sum', limit: COARSE });
    const limiters = [makers.ours(rule), makers.flexible(rule), makers.twoBuckets(rule)];
    await use([...limiters, coarse], WINDOW_SECONDS * 1_000);
    await keep(server);
    /** @type {Record<string, number>} */
    const values = {};
    for (const limiter of limiters) {
      values[`${limiter.name}: 100 of 100`] = await bytes(server, limiter, full);
      values[`${limiter.name}: 10 of 100`] = await bytes(server, limiter, tenth);
    }
    values[`${coarse.name}, a limit above 1,000`] = await bytes(server, coarse, full);
    const note = `Medians of ${IDENTIFIERS} identifiers, keys of the same length. Both buckets of a sliding window are counted.`;
    return [{ title: 'Rate limit: bytes in the store per identifier', values, note }];
  });
}
