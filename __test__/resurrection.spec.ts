/**
 * No resurrection: two real processes on one Valkey and one Postgres. Once an invalidation resolved as acknowledged,
 * no read that starts later, in any process, gives the old answer. Loads straddle invalidations (the views pause after
 * their snapshot), one process has a slow network, entries are evicted at random, and readers are killed while they
 * hold leases. The same judge finds a cache without leases guilty.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases, type UserRow } from './support/database.js';
import { Engines } from './support/engines.js';
import { JitterProxy } from './support/jitter-proxy.js';
import { Peer } from './support/processes.js';
import { type Report, resurrections } from './support/resurrections.js';
import { rounds } from './support/rounds.js';
import { SlowSource, slowSchema } from './support/slow-source.js';

const LANES_EACH = 8;
const READERS = 12;

let databases: Databases;
let store: Server;

beforeAll(async () => {
  [databases, store] = await Promise.all([Databases.start(), startValkey()]);
});

afterAll(async () => {
  await databases?.[Symbol.asyncDispose]();
  await store?.stop();
});

interface Scenario {
  readonly subject: 'users' | 'tokens' | 'results';
  readonly rounds: number;
  /** `getCached...`, a query of one's own, `cache...` instead of the functions that load. */
  readonly byHand?: boolean;
  readonly broken?: boolean;
  /** The second process loses the store again and again. */
  readonly outages?: boolean;
  /** Results past their time are accepted and refreshed in the background, and entries are made to be past it. */
  readonly aging?: boolean;
}

/** Ends a process in the middle of its loads and starts the next one, until told to stop. */
async function killReaders(task: object, stopped: () => boolean): Promise<number> {
  let killed = 0;
  while (!stopped()) {
    await using reader = new Peer('resurrection-worker.mjs', { ...task, mine: [], rounds: 0, readers: 4 });
    await reader.next('running');
    await sleep(200 + Math.random() * 400);
    await reader.kill();
    killed += 1;
    await sleep(500);
  }
  return killed;
}

/** Cuts the connection for longer than a command may take, over and over. */
async function interrupt(proxy: FaultProxy, stopped: () => boolean): Promise<void> {
  while (!stopped()) {
    await sleep(200 + Math.random() * 300);
    await proxy.set({ blackhole: true });
    await sleep(80 + Math.random() * 80);
    await proxy.set({ blackhole: false });
  }
}

async function lanesOf(database: Database, subject: Scenario['subject']): Promise<string[]> {
  const lanes = Array.from({ length: 2 * LANES_EACH }, (_, lane) => `lane-${lane}`);
  if (subject === 'tokens') return lanes;
  return Promise.all(lanes.map(async () => (await database.addUser({ first_name: '0' })).user_id));
}

async function play(scenario: Scenario): Promise<{ reports: Report[]; killed: number }> {
  await store.command('FLUSHALL');
  const database = await databases.create();
  await (await SlowSource.in(database)).pace(0, 3);
  await using network = await JitterProxy.to(store.port, 3);
  await using faults = await startProxy({ port: network.port });
  const lanes = await lanesOf(database, scenario.subject);
  const { subject, byHand = false, broken = false, outages = false, aging = false } = scenario;
  const task = (redisPort: number) => ({
    ...{ subject, byHand, broken, aging, lanes, readers: READERS, rounds: scenario.rounds / 2 },
    startNs: process.hrtime.bigint(),
    storePort: store.port,
    databaseUrl: database.url,
    // What is not an outage shall not become one on a busy machine.
    options: {
      ...{ redisHost: '127.0.0.1', redisPort, databaseUrl: database.url, cacheLeaseMs: 400 },
      ...(broken ? {} : { ...slowSchema, cacheDeadlineMs: outages ? 50 : 2_000, cacheFlightWaitMs: 100 }),
    },
  });
  const mine = lanes.map((_, lane) => lane);
  const near = task(store.port);
  const far = task(faults.port);
  far.startNs = near.startNs;
  await using one = new Peer('resurrection-worker.mjs', { ...near, mine: mine.slice(0, LANES_EACH) });
  await using other = new Peer('resurrection-worker.mjs', { ...far, mine: mine.slice(LANES_EACH) });
  const both = [one, other];
  await Promise.all(both.map((process) => process.next('running')));
  let stopped = false;
  const victims = killReaders(near, () => stopped);
  const cuts = outages ? interrupt(faults, () => stopped) : undefined;
  await Promise.all(both.map((process) => process.next('written')));
  stopped = true;
  await cuts;
  const killed = await victims;
  const reports = (await Promise.all(both.map((process) => process.ask({ kind: 'report' })))) as Report[];
  return { reports, killed };
}

const invalidations = (reports: readonly Report[]): number =>
  reports.reduce((sum, report) => sum + report.acknowledged.length / 3, 0);

const subjects = ['users', 'tokens'] as const;

describe.each(subjects)('two processes write and read %s', (subject) => {
  it.each([
    { how: 'through the functions that load', byHand: false },
    { how: 'with getCached... and cache...', byHand: true },
  ])('never an old answer $how', async ({ byHand }) => {
    const count = rounds(10_000, 300);
    const { reports, killed } = await play({ subject, byHand, rounds: count });
    expect(resurrections(reports)).toEqual([]);
    expect(reports.map(({ errors, unacknowledged }) => ({ errors, unacknowledged }))).toEqual([
      { errors: {}, unacknowledged: 0 },
      { errors: {}, unacknowledged: 0 },
    ]);
    expect(invalidations(reports)).toBe(count);
    expect(killed).toBeGreaterThan(0);
    for (const report of reports) expect(report.reads.length / 3).toBeGreaterThan(count / 4);
  });

  it('never an old answer while one of them keeps losing the store', async () => {
    const count = rounds(2_000, 200);
    const { reports } = await play({ subject, rounds: count, outages: true });
    expect(resurrections(reports)).toEqual([]);
    expect(invalidations(reports)).toBe(count);
    // It really lost the store, and still every call was answered.
    expect(reports[1]?.metrics?.store.errors).toBeGreaterThan(0);
    expect(reports.map(({ errors }) => errors)).toEqual([{}, {}]);
  });

  it('and the judge notices a cache that fills without a lease', async () => {
    expect(await noticed(() => play({ subject, rounds: rounds(1_000, 400), broken: true }))).toBe(true);
  });
});

/** Whether it is noticed in one of a few attempts: what is broken need not show in each. */
async function noticed(attempt: () => ReturnType<typeof play>): Promise<boolean> {
  for (let left = 5; left > 0; left -= 1) {
    const { reports } = await attempt();
    if (resurrections(reports).length > 0) return true;
  }
  return false;
}

describe('two processes change what results are made of', () => {
  it.each([
    { how: 'with a store in order', count: rounds(10_000, 300), outages: false, aging: false },
    {
      how: 'while one of them keeps losing the store',
      count: rounds(2_000, 200),
      outages: true,
      aging: false,
    },
    {
      how: 'although those past their time are answered',
      count: rounds(10_000, 300),
      outages: false,
      aging: true,
    },
    { how: 'of all that', count: rounds(2_000, 200), outages: true, aging: true },
  ])('never a void result $how', async ({ count, outages, aging }) => {
    const { reports } = await play({ subject: 'results', rounds: count, outages, aging });
    expect(resurrections(reports)).toEqual([]);
    expect(invalidations(reports)).toBe(count);
    expect(reports.map(({ errors }) => errors)).toEqual([{}, {}]);
    for (const { reads, metrics } of reports) {
      expect(reads.length / 3).toBeGreaterThan(count / 4);
      // There were such answers, and queries that ran again, some of them in vain.
      const { stale = 0, refreshes = 0 } = metrics?.dataSources ?? {};
      expect([stale > count / 50, refreshes > count / 50], `${stale} ${refreshes}`).toEqual([aging, aging]);
    }
  });

  it('and the judge notices a cache that fills without a lease', async () => {
    expect(await noticed(() => play({ subject: 'results', rounds: rounds(1_000, 400), broken: true }))).toBe(
      true,
    );
  });
});

/** The same in slow motion, step by step: someone holds what they loaded before the change, and stores it after. */
describe('a caller who stores what they loaded before the change', () => {
  const leaseMs = 100;
  let database: Database;
  const engines = new Engines();
  const start = () =>
    engines.start({
      ...{ redisHost: store.host, redisPort: store.port, databaseUrl: database.url },
      ...{ cacheDeadlineMs: 2_000, cacheLeaseMs: leaseMs },
    });

  beforeAll(async () => {
    database = await databases.create();
  });
  afterAll(() => engines[Symbol.asyncDispose]());

  const situations = [
    { when: 'and nobody looked meanwhile', looks: false, waitMs: 0, evicted: false },
    { when: 'and somebody else looked meanwhile', looks: true, waitMs: 0, evicted: false },
    { when: 'and somebody else looked after an eviction', looks: true, waitMs: 0, evicted: true },
    { when: 'after an eviction', looks: false, waitMs: 0, evicted: true },
    { when: 'without having looked, after an eviction', blind: true, looks: false, waitMs: 0, evicted: true },
    { when: 'much later, when somebody else looked', looks: true, waitMs: leaseMs + 50, evicted: true },
  ];
  const cases = situations.flatMap((one) => [
    { blind: false, ...one, by: 'another process' as const },
    { blind: false, ...one, by: 'the same process' as const },
  ]);

  it.each(cases)(
    'brings back no user: $when, invalidated by $by',
    async ({ blind, looks, waitMs, evicted, by }) => {
      const [mine, other] = [start(), start()];
      const { user_id: id } = await database.addUser({ first_name: 'old' });
      if (!blind) expect(await mine.getCachedUserBasic(id)).toBeNull();
      const [row] = await database.query<UserRow>('SELECT * FROM users WHERE user_id = $1', [id]);
      await sleep(waitMs);
      await database.query(`UPDATE users SET first_name = 'new' WHERE user_id = $1`, [id]);
      const done = await (by === 'the same process' ? mine : other).invalidateUserCache(id);
      expect(done).toEqual({ acknowledged: true, queued: false });
      if (evicted) await store.command('DEL', `user_basic:${id}`);
      if (looks) await mine.getCachedUserBasic(id);
      await mine.cacheUserBasic(id, row as UserRow);
      const seen = await Promise.all([mine, other, start()].map((engine) => engine.getUserById(id)));
      expect(seen.map((user) => user?.first_name)).toEqual(['new', 'new', 'new']);
    },
  );

  it.each(cases)(
    'brings back no token: $when, invalidated by $by',
    async ({ blind, looks, waitMs, evicted, by }) => {
      const [mine, other] = [start(), start()];
      const jti = randomUUID();
      if (!blind) expect(await mine.getCachedTokenBlacklistStatus(jti)).toBeNull();
      await sleep(waitMs);
      await database.revoke(jti);
      const done = await (by === 'the same process' ? mine : other).invalidateTokenCache(jti);
      expect(done).toEqual({ acknowledged: true, queued: false });
      if (evicted) await store.command('DEL', `token_bl:${jti}`);
      if (looks) await mine.getCachedTokenBlacklistStatus(jti);
      await mine.cacheTokenBlacklistStatus(jti, false);
      const seen = await Promise.all([mine, other, start()].map((engine) => engine.isTokenBlacklisted(jti)));
      expect(seen).toEqual([true, true, true]);
    },
  );
});
