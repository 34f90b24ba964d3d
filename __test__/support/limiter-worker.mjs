/**
 * One process of the limiter tests: it checks limits at random moments, in bursts, and reports when each check was sent
 * and answered, by the machine's one monotonic clock, and what it was told. It judges nothing.
 * Invariant: a check's first time is taken before it is handed over, its second one after it was answered.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import bcos from '../../index.js';
import { NaiveLimiter } from './naive-limiter.mjs';

/** How likely a caller waits for a turn of the event loop before the next check of its burst. */
const APART = 0.1;
/** Checks of one lane that wait for an answer. */
const WAITING = 500;
const ALLOWED = 1;
const DEGRADED = 2;

/**
 * @typedef {{ type: string, identifier: string, limit: number, windowMs: number, mostCost: number, burst: number,
 *   pauseMs: number, onStoreFailure?: import('../../index.js').OnStoreFailure }} Lane
 * @typedef {{ options: import('../../index.js').EngineOptions, startNs: bigint, storePort: number }} Task
 * @typedef {{ type: string, identifier: string, limit: number, windowMs: number, cost?: number }} Check
 */

/** @type {Task} */
let task;
/** @type {import('../../index.js').Engine} */
let engine;
/** Ends what runs. */
let stop = () => {};

const nowUs = () => Number(process.hrtime.bigint() - task.startNs) / 1_000;
/** @param {number} most */
const upTo = (most) => 1 + Math.floor(Math.random() * most);

/** @param {{ lanes: Lane[], requests: number, naive: boolean }} order */
function run({ lanes, requests, naive }) {
  const limiter = naive ? new NaiveLimiter(task.storePort) : engine;
  /** Lane, sent, answered, cost and what was told, of each check. @type {number[]} */
  const checks = [];
  /** @type {Record<string, number>} */
  const errors = {};
  let left = requests;
  let stopped = false;
  stop = () => {
    stopped = true;
  };

  /** @param {number} at @param {Lane} lane */
  async function check(at, { type, identifier, limit, windowMs, mostCost, onStoreFailure }) {
    const cost = upTo(mostCost);
    const sent = nowUs();
    try {
      const told = await limiter.checkRateLimit(type, identifier, limit, windowMs / 1_000, {
        cost,
        onStoreFailure,
      });
      const state = (told.allowed ? ALLOWED : 0) + (told.degraded ? DEGRADED : 0);
      checks.push(at, sent, nowUs(), cost, state);
    } catch (error) {
      const { code, message } = /** @type {{ code?: string, message?: string }} */ (error);
      const name = `${code ?? ''} ${message ?? 'unknown'}`;
      errors[name] = (errors[name] ?? 0) + 1;
    }
  }

  /** @param {Lane} lane @param {number} at */
  async function caller(lane, at) {
    while (left > 0 && !stopped) {
      await sleep(Math.random() * lane.pauseMs);
      /** @type {Promise<void>[]} */
      let waiting = [];
      for (let more = upTo(lane.burst); more > 0 && left > 0 && !stopped; more -= 1) {
        left -= 1;
        waiting.push(check(at, lane));
        if (Math.random() < APART) await turn();
        if (waiting.length < WAITING) continue;
        await Promise.all(waiting);
        waiting = [];
      }
      await Promise.all(waiting);
    }
  }

  return Promise.all(lanes.map(caller)).then(() => {
    if (limiter instanceof NaiveLimiter) limiter.close();
    return { checks: Float64Array.from(checks), errors };
  });
}

/** All at once, each of them one check of all these limits. @param {{ checks: Check[], count: number }} order */
async function burst({ checks, count }) {
  const limits = checks.map(({ windowMs, ...rest }) => ({ ...rest, windowSeconds: windowMs / 1_000 }));
  const [{ type, identifier, limit, windowSeconds }] = limits;
  const one = () =>
    limits.length > 1
      ? engine.checkRateLimits(limits)
      : engine.checkRateLimit(type, identifier, limit, windowSeconds);
  const told = await Promise.all(Array.from({ length: count }, one));
  return {
    admitted: told.filter(({ allowed }) => allowed).length,
    degraded: told.filter(({ degraded }) => degraded).length,
  };
}

/** One after the other. @param {Check[]} checks */
async function each(checks) {
  const told = [];
  for (const { type, identifier, limit, windowMs, cost = 1 } of checks) {
    told.push(await engine.checkRateLimit(type, identifier, limit, windowMs / 1_000, { cost }));
  }
  return told;
}

process.on('message', async (message) => {
  const { kind } = /** @type {{ kind: string }} */ (message);
  const given = /** @type {any} */ (message);
  if (kind === 'task') {
    task = given;
    engine = bcos.createEngine(task.options);
    // It is connected and heard of before anything is measured.
    await engine.checkRateLimit('warm-up', String(process.pid), 1, 1);
    process.send?.({ kind: 'ready' });
  }
  if (kind === 'run') {
    const done = run(given);
    process.send?.({ kind: 'running' });
    process.send?.({ kind: 'report', ...(await done), metrics: engine.getMetrics().limiter });
  }
  if (kind === 'stop') stop();
  if (kind === 'burst') process.send?.({ kind, ...(await burst(given)) });
  if (kind === 'each') process.send?.({ kind, told: await each(given.checks) });
  if (kind === 'health') {
    const { limiter } = await engine.getHealth();
    const { degraded } = await engine.peekRateLimit('nobody', 'asks', 1, 1);
    process.send?.({ kind, ...limiter, degraded });
  }
});
process.once('disconnect', () => process.exit());
