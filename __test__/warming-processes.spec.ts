/**
 * Warm-ups of several processes, and of the default engine by itself: one warms, the others say so; a killed one does
 * not stand in the way; importing and `next build` warm nothing.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { EngineOptions, WarmupStats } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import type { Database } from './support/database.js';
import { until } from './support/engines.js';
import { Peer } from './support/processes.js';
import { createRbacTables } from './support/rbac-data.js';
import { postgres } from './support/rbac-suite.js';
import { RbacWorld } from './support/rbac-world.js';
import { rounds } from './support/rounds.js';
import { run } from './support/scripts.js';

const PROCESSES = rounds(8, 4);

const databases = postgres();
let db: Database;
let store: Server;
let options: EngineOptions;
let user: string;

beforeAll(async () => {
  store = await startValkey();
  db = await databases().create();
  await createRbacTables(db);
  const world = new RbacWorld(db);
  const role = await world.role({ name: 'super_admin', is_system_role: true });
  user = await world.user({ roles: [role] });
  options = {
    ...{ redisHost: store.host, redisPort: store.port, databaseUrl: db.url },
    // Busy cores shall not look like an outage.
    ...{ cacheDeadlineMs: 2_000, cacheSourceDeadlineMs: 10_000 },
  };
});
afterAll(() => store?.stop());
beforeEach(async () => {
  await store.command('FLUSHALL');
});

interface Warmed {
  readonly stats: WarmupStats;
  readonly statements: Readonly<Record<string, number>>;
}

async function peers(count: number): Promise<Peer[]> {
  const all = Array.from({ length: count }, () => new Peer('warm-worker.mjs', { options }));
  await Promise.all(all.map((peer) => peer.next('ready')));
  return all;
}
const warm = async (peer: Peer, order: object = { level: 'aggressive' }, endless = false) =>
  (await peer.ask({ kind: 'warm', order, endless })) as unknown as Warmed;
const end = (all: readonly Peer[]) => Promise.all(all.map((peer) => peer.kill()));

describe('processes that start together', () => {
  it('warm once', async () => {
    const all = await peers(PROCESSES);
    const ended = await Promise.all(all.map((peer) => warm(peer)));
    const done = ended.filter(({ stats }) => stats.skipped !== true);
    expect(done.map(({ stats }) => [stats.rolesWarmed, stats.usersWarmed, stats.errors])).toEqual([
      [1, 1, 0],
    ]);
    for (const { stats } of ended.filter(({ stats }) => stats.skipped === true)) {
      expect(['another_process', 'recent']).toContain(stats.reason);
      expect([stats.rolesWarmed, stats.usersWarmed, stats.errors]).toEqual([0, 0, 0]);
    }
    const sum = (name: string) => ended.reduce((total, { statements }) => total + (statements[name] ?? 0), 0);
    expect([sum('warm_ids'), sum('rbac_parts')]).toEqual([1, 2]);
    // One that comes a moment later finds the mark; one that insists warms, and loads nothing.
    const [first] = all;
    if (first === undefined) throw new Error('no process');
    expect((await warm(first)).stats).toMatchObject({ skipped: true, reason: 'recent' });
    const forced = await warm(first, { level: 'aggressive', force: true });
    expect(forced.stats).toMatchObject({ rolesWarmed: 1, usersWarmed: 1 });
    // Another level is another warm-up.
    expect((await warm(first, { level: 'minimal' })).stats).toMatchObject({ rolesWarmed: 1 });
    await end(all);
  });

  it('the mark ends by itself', async () => {
    const [peer] = await peers(1);
    if (peer === undefined) throw new Error('no process');
    await warm(peer);
    const left = Number(await store.command('PTTL', 'warming:aggressive'));
    expect(left).toBeGreaterThan(20_000);
    expect(left).toBeLessThanOrEqual(30_000);
    await store.command('PEXPIRE', 'warming:aggressive', '1');
    await sleep(20);
    expect((await warm(peer)).stats).toMatchObject({ rolesWarmed: 1 });
    await end([peer]);
  });

  it('one that is killed keeps the others from it for ten seconds at most, and renews its right until then', async () => {
    const all = await peers(2);
    const [leader, other] = all;
    if (leader === undefined || other === undefined) throw new Error('no process');
    leader.send({ kind: 'warm', order: { level: 'aggressive' }, endless: true });
    await leader.next('querying');
    const skipped = { skipped: true, reason: 'another_process' };
    expect((await warm(other)).stats).toMatchObject(skipped);
    // Longer than the lease would last without being renewed.
    await sleep(11_000);
    expect((await warm(other)).stats).toMatchObject(skipped);
    await leader.kill();
    expect((await warm(other)).stats).toMatchObject(skipped);
    const began = Date.now();
    await until('another one may', async () => (await warm(other)).stats.skipped !== true, 12_000);
    expect(Date.now() - began).toBeLessThan(11_000);
    await end(all);
  });

  it('gives back only what is its own', async () => {
    const [peer] = await peers(1);
    if (peer === undefined) throw new Error('no process');
    peer.send({ kind: 'warm', order: { level: 'aggressive', deadlineMs: 1_000 }, endless: true });
    await peer.next('querying');
    await store.command('SET', 'warming:aggressive', 'somebody else', 'PX', '60000');
    expect(await peer.next('warm')).toMatchObject({ stats: { reason: 'deadline' } });
    expect(String(await store.command('GET', 'warming:aggressive'))).toBe('somebody else');
    // What is nobody's lease keeps nobody from warming.
    expect((await warm(peer)).stats).toMatchObject({ rolesWarmed: 1 });
    await store.command('DEL', 'warming:aggressive');
    await store.command('RPUSH', 'warming:aggressive', 'a list');
    expect((await warm(peer)).stats).toMatchObject({ rolesWarmed: 1 });
    await end([peer]);
  });
});

describe('the default engine', () => {
  const env = (more: Record<string, string> = {}): Record<string, string> => ({
    ...store.env,
    DATABASE_URL: db.url,
    CACHE_DEADLINE_MS: '2000',
    ENABLE_CACHE_WARMING: 'true',
    ...more,
  });
  const script = async (scenario: string, more: Record<string, string> = {}) => {
    const result = await run('warm-default.mjs', [scenario], { env: env(more) });
    expect([result.code, result.signal, result.stderr]).toEqual([0, null, '']);
    return result;
  };
  const keys = async () => ((await store.command('KEYS', '*')) as string[]).sort();

  it('importing warms nothing', async () => {
    expect((await script('import alone')).facts).toEqual({ imported: true });
    expect(await keys()).toEqual([]);
  });

  it('warms when it is first used: roles and organizations, unless more is configured', async () => {
    const { facts } = await script('first use');
    expect(facts['last']).toMatchObject({ level: 'minimal', rolesWarmed: 1, usersWarmed: 0, errors: 0 });
    expect(await keys()).toContain('org_tree:all');
    await store.command('FLUSHALL');
    const { facts: more } = await script('first use', { CACHE_WARMING_LEVEL: 'aggressive' });
    expect(more['last']).toMatchObject({ level: 'aggressive', rolesWarmed: 1, usersWarmed: 1 });
    expect(await keys()).toContain(`user_context:${user}`);
  });

  it.each<[when: string, more: Record<string, string>]>([
    ['during next build', { NEXT_PHASE: 'phase-production-build' }],
    ['when it is not enabled', { ENABLE_CACHE_WARMING: 'false' }],
    ['at the level none', { CACHE_WARMING_LEVEL: 'none' }],
  ])('does not warm %s', async (_, more) => {
    expect((await script('first use', more)).facts).toEqual({ last: null });
    expect((await keys()).filter((key) => !key.startsWith('token_bl'))).toEqual([]);
  });

  it('warms in any other phase of Next', async () => {
    const { facts } = await script('first use', { NEXT_PHASE: 'phase-production-server' });
    expect(facts['last']).toMatchObject({ rolesWarmed: 1 });
  });

  it('is the only one that does it by itself, and once', async () => {
    expect((await script('an engine of its own')).facts).toEqual({ last: null });
    expect((await script('a second copy of the wrapper')).facts).toEqual({ statements: [1, 1] });
  });

  it('an order that is the first use gets what it asks for', async () => {
    const { facts } = await script('asked for as the first use');
    expect(facts['stats']).toMatchObject({ rolesWarmed: 1, usersWarmed: 1, errors: 0 });
  });

  it('keeps no process alive', async () => {
    const unlock = await db.lock('roles');
    const result = await script('nothing left to do', { CACHE_SOURCE_DEADLINE_MS: '20000' });
    await unlock();
    expect(result.endedAfterMs).toBeLessThan(2_000);
    expect(result.facts['state']).not.toBe('idle');
  });

  it('a thread that is ended takes its warm-up along', async () => {
    const { facts } = await script('a thread that is ended', { ENABLE_CACHE_WARMING: 'false' });
    expect(facts['stats']).toMatchObject({ rolesWarmed: 1, usersWarmed: 1, errors: 0 });
    expect(facts['ended']).toBe('idle');
    expect(await keys()).toContain('warming:aggressive');
  });

  it('a report of a fallback does not throw, whatever is configured', async () => {
    expect((await script('bad configuration', { REDIS_PORT: 'abc' })).facts).toEqual({ recorded: true });
  });
});
