/**
 * How much gets through: one pattern of bursts, the same for every limiter and at the same moments, around the end of a fixed
 * window and of a bucket of the clock. What is printed is the largest number that was admitted within any window.
 * Invariant: an admission counts within a window only if its check was sent and answered in it, so what is printed was
 * admitted there, however slow the machine was; and every burst asks for the whole limit.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { range } from './data.mjs';
import { nameWithLimit, withLimiters } from './limiters.mjs';

/** @typedef {import('./limiters.mjs').Limiter} Limiter */
/** @typedef {import('./limiters.mjs').Makers} Makers */
/** @typedef {{ sent: number, answered: number }} Admission Unix milliseconds */
/** @typedef {{ host: string, port: number, windowMs: number, start: number }} Part what a process needs to take part */

/**
 * When it is sent, in windows after one of the clock begins, and how much of the limit. The first check is what a window that
 * begins with it needs. Everything from the first burst to the last lies within one window.
 */
const BURSTS = [
  { at: 0.05, share: 0 },
  { at: 0.95, share: 1 },
  { at: 1.1, share: 1 },
  { at: 1.9, share: 1 },
];

/** @param {Makers} makers @param {number} windowMs */
function limitersOf(makers, windowMs) {
  const rule = { type: 'burst', limit: 100, windowSeconds: windowMs / 1_000 };
  return [
    makers.ours(rule),
    makers.ours({ ...rule, type: 'crowd', limit: 2_000 }),
    makers.flexible(rule),
    makers.twoBuckets(rule),
  ];
}

const now = () => performance.timeOrigin + performance.now();

/** What was admitted, a list per limiter. @param {Limiter[]} limiters @param {string} identifier @param {Part} part */
async function play(limiters, identifier, { windowMs, start }) {
  const admitted = limiters.map(() => /** @type {Admission[]} */ ([]));
  for (const { at, share } of BURSTS) {
    await sleep(Math.max(0, start + at * windowMs - now()));
    const checks = limiters.flatMap(({ limit, check }, which) =>
      range(Math.max(1, share * limit)).map(async () => {
        const sent = now();
        if (await check(identifier)) admitted[which]?.push({ sent, answered: now() });
      }),
    );
    await Promise.all(checks);
  }
  return admitted;
}

/** The largest number within any window. @param {Admission[]} admissions @param {number} windowMs */
function most(admissions, windowMs) {
  const starts = new Set(admissions.map(({ sent }) => sent));
  const within = (/** @type {number} */ start) =>
    admissions.filter(({ sent, answered }) => sent >= start && answered < start + windowMs).length;
  return Math.max(0, ...[...starts].map(within));
}

/** Of the second process. @param {Part} part */
export function takePart(part) {
  return withLimiters(part, (makers) => play(limitersOf(makers, part.windowMs), 'both', part));
}

/** @param {Part} part @returns {Promise<Admission[][]>} */
async function second(part) {
  const child = fork(new URL('limit-burst-child.mjs', import.meta.url), { stdio: 'inherit' });
  child.send(part);
  const [admitted] = await Promise.race([
    once(child, 'message'),
    once(child, 'exit').then(() => {
      throw new Error('the second process ended before it answered');
    }),
  ]);
  return admitted;
}

/** @type {import('./report.mjs').Measurement['run']} */
export function limitBurst({ server: { host, port }, roundMs, progress }) {
  progress('rate limit: bursts from one process and from two');
  const windowMs = roundMs < 100 ? 1_000 : 2_000;
  // Not before the second process has started.
  const start = (Math.floor((now() + windowMs / 2) / windowMs) + 1) * windowMs;
  const part = { host, port, windowMs, start };
  return withLimiters({ host, port }, async (makers) => {
    const limiters = limitersOf(makers, windowMs);
    const [alone, here, there] = await Promise.all([
      play(limiters, 'alone', part),
      play(limiters, 'both', part),
      second(part),
    ]);
    /** @type {Record<string, number>} */
    const values = {};
    limiters.forEach((limiter, which) => {
      const named = nameWithLimit(limiter);
      const both = [...(here[which] ?? []), ...(there[which] ?? [])];
      values[`${named}: one process`] = most(alone[which] ?? [], windowMs);
      values[`${named}: two processes`] = most(both, windowMs);
    });
    const title = `Rate limit: most that was admitted within any ${windowMs / 1_000} s`;
    const note =
      'Bursts of the whole limit shortly before a window ends, shortly after, and shortly before the first of them is over.';
    return [{ title, values, note }];
  });
}
