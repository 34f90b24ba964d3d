/**
 * One process of the new-enemy test: writers that grant and revoke, readers at random moments by every way there is to
 * ask, and evictions behind the cache's back. It judges nothing: it reports when what was answered, by the machine's one
 * monotonic clock. Invariant: a read's time is taken before it starts, an invalidation's after it resolved, or a commit's
 * where nobody is told.
 */
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import bcos from '../../index.js';
import { RespClient } from '../servers/resp.mjs';
import { NaiveContexts } from './naive-contexts.mjs';
import { ASKED, entriesOf, understand, write } from './rbac-enemy-lanes.mjs';
import { anyMoment } from './resurrection-subjects.mjs';

const CROWD = 4;

/**
 * @typedef {import('./rbac-enemy-lanes.mjs').Lane} Lane
 * @typedef {import('../../index.js').Engine} Engine
 * @typedef {{ naive: boolean, unvalidated: boolean, untold: boolean, evictions: number, pauseMs: number, lanes: Lane[],
 *   mine: number[], rounds: number, readers: number, startNs: bigint, boundMs: number, lateMs: number, options: import('../../index.js').EngineOptions, storePort: number,
 *   sourceUrl: string }} Task
 * @typedef {{ context: import('../../index.js').UserContext | undefined, lateMs: number }} Told `lateMs`: how much
 * later than an invalidation it may be; no context = denied
 */

/** @param {unknown} error */
const denied = (error) => {
  const { code, reason } = /** @type {{ code?: string, reason?: string }} */ (error);
  return code === 'E_NOT_FOUND' && reason === 'inactive';
};

/** Every way to ask that must never be out of date, and one that may, by so much. */
/** @param {Engine} engine @param {Lane} lane @param {Task} task @returns {Promise<Told>} */
async function ask(engine, lane, { naive, unvalidated, boundMs, lateMs }) {
  const chance = Math.random();
  const { user, kind } = lane;
  try {
    if (naive) return { context: await engine.getCachedUserContext(user), lateMs };
    if (unvalidated) {
      return { context: await engine.getCachedUserContext(user, { consistency: 'bounded' }), lateMs };
    }
    if (chance < 0.1) {
      return {
        context: await engine.getCachedUserContext(user, { consistency: 'bounded' }),
        lateMs: lateMs + boundMs,
      };
    }
    if (chance < 0.15) {
      return { context: await engine.getCachedUserContext(user, { consistency: 'fresh' }), lateMs: 0 };
    }
    if (chance < 0.2) {
      const twice = async () => {
        const first = await engine.getCachedUserContext(user);
        if (first !== (await engine.getCachedUserContext(user))) throw new Error('two states of one request');
        return first;
      };
      return { context: await bcos.withRequestSnapshot(twice), lateMs };
    }
    if (chance < 0.4) {
      const needs = kind === 'place' || kind === 'members' ? {} : { permission: ASKED };
      const result = await engine.authorizeRequest({ userId: user, ...needs });
      if (result.ok) return { context: result.context, lateMs };
      if (result.reason === 'forbidden' || result.reason === 'user_inactive')
        return { context: undefined, lateMs };
      throw result.cause ?? new Error(result.reason);
    }
    return { context: await engine.getCachedUserContext(user), lateMs };
  } catch (error) {
    if (kind === 'activation' && denied(error)) return { context: undefined, lateMs };
    throw error;
  }
}

/** @param {Task} task */
async function work(task) {
  const { lanes } = task;
  const source = new pg.Pool({ connectionString: task.sourceUrl, max: 8 });
  const evictor = new RespClient({ port: task.storePort });
  const options = /** @type {any} */ (task.options);
  const engine = /** @type {Engine} */ (
    task.naive ? /** @type {any} */ (new NaiveContexts(options)) : bcos.createEngine(options)
  );
  const now = () => Number(process.hrtime.bigint() - task.startNs);
  const versions = lanes.map(() => 0);
  /** Triples of lane, time, version. @type {number[]} */
  const reads = [];
  /** @type {number[]} */
  const acknowledged = [];
  /** @type {Set<string>} */
  const torn = new Set();
  /** @type {Record<string, number>} */
  const errors = {};
  const counts = { unacknowledged: 0, allowed: 0, denied: 0 };
  let left = task.rounds;
  let stopping = false;

  /** @param {unknown} error */
  const failed = (error) => {
    const { code, message } = /** @type {{ code?: string, message?: string }} */ (error);
    const name = `${code ?? ''} ${message ?? 'unknown'}`;
    errors[name] = (errors[name] ?? 0) + 1;
  };

  /** @param {number} at */
  async function writer(at) {
    while (left > 0 && !stopping) {
      left -= 1;
      const version = (versions[at] ?? 0) + 1;
      versions[at] = version;
      // Readers fill the caches meanwhile.
      await sleep(Math.random() * task.pauseMs);
      try {
        const done = await write(engine, source, /** @type {Lane} */ (lanes[at]), version, task.untold);
        if (done.acknowledged) acknowledged.push(at, now(), version);
        else {
          counts.unacknowledged += 1;
          left += 1;
        }
      } catch (error) {
        left += 1;
        failed(error);
      }
    }
  }

  /** @param {number} at */
  async function readOnce(at) {
    const lane = /** @type {Lane} */ (lanes[at]);
    const from = now();
    try {
      const { context, lateMs } = await ask(engine, lane, task);
      if (context !== undefined) {
        const { version, allowed, torn: complaint } = understand(lane, context);
        if (complaint !== undefined) torn.add(complaint);
        if (version !== undefined) reads.push(at, from - lateMs * 1e6, version);
        counts[allowed ? 'allowed' : 'denied'] += 1;
      } else counts.denied += 1;
      if (Math.random() >= task.evictions) return;
      const entries = entriesOf(lane);
      await evictor
        .command('DEL', /** @type {string} */ (entries[Math.floor(Math.random() * entries.length)]))
        .catch(() => 0);
    } catch (error) {
      failed(error);
    }
  }

  async function reader() {
    while (!stopping) {
      const at = Math.floor(Math.random() * lanes.length);
      const together = Math.random() < 0.5 ? CROWD : 1;
      // Several readers of one person, close together but not in step: one loads while the next one looks.
      const soon = () => anyMoment(4).then(() => readOnce(at));
      await Promise.all(Array.from({ length: together }, soon));
      // An answer from this process needs no turn of the event loop, and the others do.
      await turn();
    }
  }

  const readers = Promise.all(Array.from({ length: task.readers }, reader));
  process.on('message', (message) => {
    if (/** @type {{ kind: string }} */ (message).kind === 'report') stopping = true;
  });
  process.send?.({ kind: 'running' });
  await Promise.all(task.mine.map(writer));
  process.send?.({ kind: 'written' });
  await readers;
  // What everybody is told in the end, when nothing changes any more.
  for (const at of lanes.keys()) await readOnce(at);
  const metrics = task.naive ? undefined : engine.getMetrics();
  await engine.close();
  await source.end();
  evictor.close();
  const report = { reads: Float64Array.from(reads), acknowledged: Float64Array.from(acknowledged) };
  const keys = lanes.map(({ kind, user }) => `${kind} of ${user}`);
  process.send?.({ kind: 'report', keys, ...report, ...counts, torn: [...torn], errors, metrics }, () =>
    process.disconnect(),
  );
}

process.once('message', (task) => work(/** @type {Task} */ (task)));
process.once('disconnect', () => process.exit());
