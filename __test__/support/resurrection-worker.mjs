/**
 * One process of the resurrection test: writers that change the source and invalidate, readers at random moments, and
 * evictions behind the cache's back. It judges nothing: it reports when what was answered, by the machine's one
 * monotonic clock. Invariant: a read's time is taken before it starts, an invalidation's after it resolved.
 */
import { setImmediate as turn } from 'node:timers/promises';
import pg from 'pg';
import bcos from '../../index.js';
import { RespClient } from '../servers/resp.mjs';
import { NaiveCache } from './naive-cache.mjs';
import { anyMoment, PAST_MS, Results, Tokens, Users } from './resurrection-subjects.mjs';

const EVICTIONS = 0.03;
/** Of the entries that are kept beyond their time, how often one is made to be past it. */
const AGEINGS = 0.9;
const CROWD = 4;

/**
 * @typedef {{ broken: boolean, byHand: boolean, aging: boolean, subject: 'users' | 'tokens' | 'results', lanes: string[], mine: number[],
 *   rounds: number, readers: number, startNs: bigint, options: import('../../index.js').EngineOptions,
 *   storePort: number, databaseUrl: string }} Task
 */

/** @param {Task} task */
async function work(task) {
  const source = new pg.Pool({ connectionString: task.databaseUrl, max: 8 });
  const evictor = new RespClient({ port: task.storePort });
  const cache = task.broken
    ? new NaiveCache(/** @type {any} */ (task.options))
    : bcos.createEngine(task.options);
  const tools = { cache: /** @type {any} */ (cache), source, byHand: task.byHand, aging: task.aging };
  const subject = new { users: Users, tokens: Tokens, results: Results }[task.subject](tools, task.lanes);
  const now = () => Number(process.hrtime.bigint() - task.startNs);

  /** @type {Map<string, number>} */
  const keys = new Map();
  /** @param {string} key */
  const numbered = (key) => {
    const number = keys.get(key) ?? keys.size;
    keys.set(key, number);
    return number;
  };
  /** Triples of key number, time, version. @type {number[]} */
  const reads = [];
  /** @type {number[]} */
  const acknowledged = [];
  /** @type {Record<string, number>} */
  const errors = {};
  let unacknowledged = 0;
  let left = task.rounds;
  let stopping = false;

  /** @param {unknown} error */
  const failed = (error) => {
    const { code, message } = /** @type {{ code?: string, message?: string }} */ (error);
    const name = code ?? message ?? 'unknown';
    errors[name] = (errors[name] ?? 0) + 1;
  };

  /** @param {number} lane */
  async function writer(lane) {
    while (left > 0 && !stopping) {
      left -= 1;
      try {
        const written = await subject.write(lane);
        if (written.acknowledged) acknowledged.push(numbered(written.key), now(), written.version);
        else {
          unacknowledged += 1;
          left += 1;
        }
      } catch (error) {
        left += 1;
        failed(error);
      }
    }
  }

  /** @param {number} lane */
  async function readOnce(lane) {
    const at = now();
    try {
      const { key, stored, version } = await subject.read(lane);
      if (version !== undefined) reads.push(numbered(key), at, version);
      if (Math.random() < EVICTIONS) await evictor.command('DEL', stored);
      else if (task.aging && Math.random() < AGEINGS) await evictor.command('PEXPIRE', stored, PAST_MS, 'LT');
    } catch (error) {
      failed(error);
    }
  }

  /** @param {number} lane */
  async function readSoon(lane) {
    await anyMoment(4);
    await readOnce(lane);
  }

  async function reader() {
    while (!stopping) {
      const lane = Math.floor(Math.random() * task.lanes.length);
      // Several readers of one key, close together but not in step: one loads while the next one looks.
      const together = Math.random() < 0.5 ? CROWD : 1;
      await Promise.all(Array.from({ length: together }, () => readSoon(lane)));
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
  await cache.close();
  await source.end();
  evictor.close();
  const report = { reads: Float64Array.from(reads), acknowledged: Float64Array.from(acknowledged) };
  const metrics = cache instanceof NaiveCache ? undefined : cache.getMetrics();
  process.send?.({ kind: 'report', keys: [...keys.keys()], ...report, unacknowledged, errors, metrics }, () =>
    process.disconnect(),
  );
}

process.once('message', (task) => work(/** @type {Task} */ (task)));
process.once('disconnect', () => process.exit());
