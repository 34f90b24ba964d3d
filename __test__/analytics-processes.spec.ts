/**
 * Processes that warm the same data source and are killed or put to sleep: at any moment one whole generation is served, and
 * who was overtaken publishes nothing. Not about broken keys: `analytics-faults.spec.ts`.
 * Invariant: values of the table are its version, so that a mixture shows.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2 } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import type { Cache, Filters } from './support/analytics-questions.js';
import { createTable, type Table } from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { Peer } from './support/processes.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_261_130);
const KILLS = rounds(60, 10);
const ROWS = 60_000;
/** What a killed process may keep others from it for, and room for a busy machine. */
const TAKEN_OVER_MS = 30_000;

const TABLE: Table = {
  dataSource: 16,
  name: 'warmed_by_many',
  frequency: 'frequency',
  date: 'date_index',
  columns: [
    { name: 'practice_uid', kind: 'int', sql: 'integer' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'frequency', kind: 'text', sql: 'text', flag: 'is_time_period' },
    { name: 'date_index', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'measure_value', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
    { name: 'note', kind: 'text', sql: 'text' },
  ],
};

let databases: Databases;
let db: Database;
let server: Server;
const engines = new Engines();
const workers: Peer[] = [];
let cache: Cache;
let options: object;

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  db = await databases.create();
  await createTable(db, TABLE);
  await db.query(
    `INSERT INTO ih.${TABLE.name} SELECT n % 100, n % 7, 'measure ' || n % 6, 'Monthly', date '2024-01-01' + n % 300, 0,
            'a note of its own: ' || n FROM generate_series(1, ${ROWS}) AS n`,
  );
  options = { redisHost: server.host, redisPort: server.port, databaseUrl: db.url, cacheDeadlineMs: 5_000 };
  cache = new AnalyticsCacheV2(engines.start(options));
});
afterAll(async () => {
  await Promise.all(workers.map((worker) => worker[Symbol.asyncDispose]()));
  await engines[Symbol.asyncDispose]();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

async function worker(): Promise<Peer> {
  const peer = new Peer('analytics-warm-worker.mjs', { options });
  workers.push(peer);
  await peer.next('ready');
  return peer;
}

const setVersion = (version: number) => db.query(`UPDATE ih.${TABLE.name} SET measure_value = $1`, [version]);
const order = { kind: 'warm', dataSource: TABLE.dataSource };

/** The version that is served from the index, which must be whole. */
async function served(): Promise<number> {
  const filters = { datasourceId: TABLE.dataSource, columns: ['measure_value'] } as unknown as Filters;
  const { rows, layer } = await cache.fetch(filters, { fallback: 'none' });
  const versions = [...new Set(rows.map((row) => row['measure_value']))];
  expect([rows.length, versions.length, layer === 'source']).toEqual([ROWS, 1, false]);
  return versions[0] as number;
}

async function keys(pattern: string): Promise<string[]> {
  const found = new Set<string>();
  let cursor = '0';
  do {
    const [next, some] = (await server.command('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1_000)) as [
      string,
      string[],
    ];
    for (const key of some) found.add(key);
    cursor = next;
  } while (cursor !== '0');
  return [...found];
}

/** What the end of a lease does, without waiting for it. */
async function endLease(): Promise<number> {
  const locks = await keys(`*lock:{ds:${TABLE.dataSource}}*`);
  for (const key of locks) await server.command('DEL', key);
  return locks.length;
}

/** One that is killed while it exports, and the version that it did not publish; `undefined`: it was through already. */
async function diesExporting(): Promise<number | undefined> {
  const version = (await served()) + 1;
  await setVersion(version);
  const victim = await worker();
  victim.send(order);
  const [reached, ended] = [victim.next('exporting'), victim.next('warm')];
  for (const told of [ended, reached]) told.catch(() => undefined);
  const { kind } = await Promise.race([reached, ended]);
  await victim.kill();
  return kind === 'warm' || (await served()) === version ? undefined : version;
}

/** One that is frozen at this stage and wakes up when another one has warmed; `false`: it could not be caught there. */
async function sleepsAt(stage: string): Promise<boolean> {
  const version = await served();
  await setVersion(version + 1);
  const sleeper = await worker();
  try {
    sleeper.send(order);
    const ended = sleeper.next('warm');
    const reached = sleeper.next(stage);
    // Whichever does not come ends with the process.
    for (const told of [ended, reached]) told.catch(() => undefined);
    if ((await Promise.race([reached, ended])).kind === 'warm') return false;
    sleeper.freeze();
    if ((await endLease()) === 0 || (await served()) !== version) return false;
    await setVersion(version + 2);
    const other = await worker();
    expect(await other.ask(order)).toMatchObject({ result: { totalRows: ROWS } });
    await other.kill();
    expect(await served()).toBe(version + 2);
    sleeper.thaw();
    expect([stage, await ended]).toEqual([stage, expect.objectContaining({ error: expect.anything() })]);
    expect(await served()).toBe(version + 2);
    return true;
  } finally {
    await sleeper.kill();
  }
}

describe('who warms', () => {
  let tookMs = 0;

  it('publishes', async () => {
    const first = await worker();
    const from = performance.now();
    expect(await first.ask(order)).toMatchObject({ result: { totalRows: ROWS } });
    tookMs = performance.now() - from;
    expect(await served()).toBe(0);
    await first.kill();
  });

  it(`is killed at ${KILLS} moments: the old or the new generation, whole`, {
    timeout: 600_000,
  }, async () => {
    const random = new Random(SEED, 5);
    const outcomes = { old: 0, published: 0, left: 0 };
    let version = await served();
    for (let kill = 0; kill < KILLS; kill += 1) {
      await setVersion(version + 1);
      const victim = await worker();
      const told = victim.ask(order).catch(() => undefined);
      await sleep((tookMs * 2 * random.upTo(1_000)) / 1_000);
      await victim.kill();
      await told;
      outcomes.left += await endLease();
      const now = await served();
      expect([version, version + 1]).toContain(now);
      outcomes[now === version ? 'old' : 'published'] += 1;
      version = now;
    }
    console.info(
      `analytics kills, seed ${SEED}: ${JSON.stringify(outcomes)} within ${Math.round(tookMs)} ms`,
    );
    // Some died before they published, with their lease in the store: otherwise nothing was shown.
    expect(outcomes.old).toBeGreaterThan(0);
    expect(outcomes.left).toBeGreaterThan(0);
  });

  it('after a killed one another one takes over by itself', { timeout: 120_000 }, async () => {
    let version: number | undefined;
    for (let attempt = 0; attempt < 40 && version === undefined; attempt += 1)
      version = await diesExporting();
    expect(version).toBeDefined();
    const heir = await worker();
    const from = performance.now();
    await until(
      'somebody else warms',
      async () => {
        const told = await heir.ask(order);
        const { skipped = false } = (told['result'] ?? { skipped: true }) as { skipped?: boolean };
        return !skipped;
      },
      TAKEN_OVER_MS,
    );
    expect(performance.now() - from).toBeLessThan(TAKEN_OVER_MS);
    expect(await served()).toBe(version);
    await heir.kill();
  });

  it('sleeps past its lease and is overtaken: it publishes nothing any more', {
    timeout: 120_000,
  }, async () => {
    for (const stage of ['exporting', 'writing']) {
      // A stage that takes a moment may be over before its news is out: then once more.
      let slept = false;
      for (let attempt = 0; attempt < 40 && !slept; attempt += 1) slept = await sleepsAt(stage);
      expect([stage, slept]).toEqual([stage, true]);
    }
  });

  it('leaves nothing for good: what nobody names is collected', { timeout: 180_000 }, async () => {
    const all = async () => ({
      manifests: (await keys(`*idx:ds:${TABLE.dataSource}:*`)).length,
      frames: (await keys(`*cache:ds:${TABLE.dataSource}:*`)).length,
    });
    const last = await worker();
    await last.ask(order);
    await setVersion((await served()) + 1);
    await last.ask(order);
    const stats = await cache.getCacheStats(TABLE.dataSource);
    await until(
      'two generations are left',
      async () => {
        const { manifests, frames } = await all();
        return manifests <= 2 && frames <= 2 * stats.frames;
      },
      90_000,
    );
    for (const key of await keys(`*ds:${TABLE.dataSource}*`))
      expect([key, Number(await server.command('PTTL', key)) > 0]).toEqual([key, true]);
    expect(await served()).toBeGreaterThan(0);
    await last.kill();
  });
});
