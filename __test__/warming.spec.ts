/**
 * Warm-ups of one process on a real store and a real Postgres: what they load, in how many statements, and how they end.
 * Not several processes and not the default engine: that is `warming-processes`.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions, WarmupDataSource, WarmupOptions, WarmupProgress } from '../index.js';
import { type FaultProxy, startProxy } from './servers/index.mjs';
import type { Database } from './support/database.js';
import { Engines, statementsOf, until } from './support/engines.js';
import { statementsNamed } from './support/rbac-behaviour.js';
import { createRbacTables } from './support/rbac-data.js';
import { postgres } from './support/rbac-suite.js';
import { RbacWorld } from './support/rbac-world.js';
import { StatementCounter } from './support/statement-counter.js';
import { type TestStore, valkey } from './support/stores.js';

const databases = postgres();
let store: TestStore;
let proxy: FaultProxy;
let counter: StatementCounter;
let engines: Engines;
let db: Database;
let world: RbacWorld;

/** Active system roles of the world. */
let roles: string[];
/** Active users, the one who was active last first. */
let users: string[];

beforeAll(async () => {
  store = await valkey.start();
  proxy = await startProxy({ port: store.options.redisPort as number });
  counter = await StatementCounter.start(databases().server.port);
});
afterAll(async () => {
  await counter?.[Symbol.asyncDispose]();
  await proxy?.stop();
  await store?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  engines = new Engines();
  await store.command('FLUSHALL');
  db = await databases().create();
  await createRbacTables(db);
  world = new RbacWorld(db);
  const system = { is_system_role: true };
  roles = await Promise.all(
    ['super_admin', 'practice_admin', 'user'].map((name) =>
      world.role({ name, ...system, permissions: ['analytics:read:own'] }),
    ),
  );
  await world.role({ name: 'left', ...system, is_active: false });
  await world.role({ name: 'gone', ...system, deleted_at: '2026-01-01T00:00:00Z' });
  const own = await world.role({ name: 'own' });
  const top = await world.organization({ practice_uids: [4] });
  users = [];
  for (let day = 28; day > 8; day -= 1) {
    const updated_at = `2026-03-${String(day).padStart(2, '0')}T00:00:00Z`;
    users.push(await world.user({ updated_at, roles: [own, roles[2] ?? ''], organizations: [top] }));
  }
  // The latest of all, and yet not active.
  await world.user({ updated_at: '2026-05-01T00:00:00Z', is_active: false });
  await world.user({ updated_at: '2026-05-02T00:00:00Z', deleted_at: '2026-05-02T00:00:00Z' });
});
afterEach(async () => {
  await proxy.reset();
  await engines[Symbol.asyncDispose]();
});

const start = (...options: EngineOptions[]): Engine =>
  engines.start(store.options, { databaseUrl: counter.through(db.url) }, ...options);

/** Ids of the entries of a namespace in the store. */
async function stored(namespace: string): Promise<string[]> {
  const keys = (await store.dump()).map(([key]) => key.split(':'));
  return keys.flatMap(([name, id = '']) => (name === namespace ? [id] : [])).sort();
}

/** A data source of its own, whose query counts how often it ran and how many ran at once. */
function source(ms = 5, state = { ran: 0, atOnce: 0, most: 0 }) {
  const queryFunction = async () => {
    state.ran += 1;
    state.atOnce += 1;
    state.most = Math.max(state.most, state.atOnce);
    await sleep(ms);
    state.atOnce -= 1;
    return { data: [state.ran] };
  };
  const one = (): WarmupDataSource => ({
    params: { dataSourceId: randomUUID() },
    userOrganizations: ['a'],
    queryFunction,
  });
  return { state, one };
}
const failing = (): WarmupDataSource => ({
  params: { dataSourceId: randomUUID() },
  userOrganizations: null,
  queryFunction: async () => {
    throw new RangeError('no');
  },
});
/** Its query ends when the test says so. */
function blocked() {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const state = { ran: 0 };
  const queryFunction = async () => {
    state.ran += 1;
    await held;
    return { data: [1] };
  };
  const dataSource: WarmupDataSource = {
    params: { dataSourceId: randomUUID() },
    userOrganizations: null,
    queryFunction,
  };
  return { dataSource, state, release: () => release() };
}

const NOTHING = { rolesWarmed: 0, usersWarmed: 0, dataSourcesWarmed: 0, errors: 0 };

describe('what is loaded', () => {
  it('minimal: the organizations and the active system roles, in two statements', async () => {
    const engine = start();
    await engine.isTokenBlacklisted('the connection');
    const wire = counter.statements;
    const stats = await engine.warmCache({ level: 'minimal' });
    expect(stats).toEqual({ ...NOTHING, rolesWarmed: 3, duration: expect.any(Number) });
    expect(counter.statements - wire).toBe(2);
    const { statementsByName } = engine.getMetrics().source;
    expect(statementsByName).toMatchObject({ warm_ids: 1, rbac_parts: 1 });
    expect(await stored('role_perms')).toEqual([...roles].sort());
    expect(await stored('org_tree')).toEqual(['all']);
    expect(await stored('user_context')).toEqual([]);
    const other = start();
    const cost = await statementsOf(other, () =>
      Promise.all(roles.map((id) => other.getCachedRolePermissions(id))),
    );
    expect(cost).toBe(0);
  });

  it('aggressive: also the contexts of those who were active last', async () => {
    const engine = start();
    const stats = await engine.warmCache({ level: 'aggressive', users: 5 });
    expect(stats).toEqual({ ...NOTHING, rolesWarmed: 3, usersWarmed: 5, duration: expect.any(Number) });
    expect(await stored('user_context')).toEqual(users.slice(0, 5).sort());
    const { warm_ids, rbac_parts, rbac_context } = engine.getMetrics().source.statementsByName;
    expect([warm_ids, rbac_context]).toEqual([1, 0]);
    // The roles and the tree; five own parts; the role that is not a system role.
    expect(rbac_parts).toBeLessThanOrEqual(3);
    const other = start();
    const cost = await statementsOf(other, () =>
      Promise.all(users.slice(0, 5).map((id) => other.getCachedUserContext(id))),
    );
    expect(cost).toBe(0);
  });

  it('a hundred users unless it is told otherwise, and nobody when it is told so', async () => {
    await Promise.all(Array.from({ length: 90 }, () => world.user()));
    const engine = start();
    expect(await engine.warmCache({ level: 'aggressive' })).toMatchObject({ usersWarmed: 100, errors: 0 });
    expect(await engine.warmCache({ level: 'aggressive', users: 0, force: true })).toMatchObject({
      usersWarmed: 0,
    });
    const { rbac_parts } = engine.getMetrics().source.statementsByName;
    // Eight at a time, own parts and at most one further role in each step.
    expect(rbac_parts).toBeLessThanOrEqual(2 * 13 + 2);
  });

  it('what is there already is not loaded', async () => {
    const engine = start();
    await engine.warmCache({ level: 'aggressive' });
    const again = await statementsNamed(engine, () => engine.warmCache({ level: 'aggressive', force: true }));
    expect(again).toEqual({ warm_ids: 1 });
  });

  it('after everything was flushed it is needed again', async () => {
    const engine = start();
    await engine.warmCache();
    expect(await engine.warmCache()).toMatchObject({ skipped: true, reason: 'recent' });
    await engine.redisCacheService.flushAll();
    expect(await engine.warmCache()).toMatchObject({ rolesWarmed: 3 });
  });

  it('asks the tables that the application has', async () => {
    await db.query('ALTER TABLE roles RENAME TO app_roles');
    await db.query('ALTER TABLE app_roles RENAME COLUMN is_system_role TO built_in');
    await db.query('ALTER TABLE users RENAME COLUMN updated_at TO changed_at');
    const schema = {
      roles: { table: 'app_roles', columns: { is_system_role: 'built_in' } },
      users: { columns: { updated_at: 'changed_at' } },
    };
    const stats = await start({ schema }).warmCache({ level: 'aggressive', users: 3 });
    expect(stats).toMatchObject({ rolesWarmed: 3, usersWarmed: 3, errors: 0 });
    expect(await stored('user_context')).toEqual(users.slice(0, 3).sort());
  });

  it('the level is the configured one unless the call says otherwise', async () => {
    const engine = start({ cacheWarmingLevel: 'aggressive' });
    expect(await engine.warmCache({ users: 2 })).toMatchObject({ rolesWarmed: 3, usersWarmed: 2 });
    expect(await engine.warmCache({ level: 'minimal' })).toMatchObject({ usersWarmed: 0 });
    expect(await engine.warmCache({ level: 'none' })).toEqual({
      ...NOTHING,
      duration: 0,
      skipped: true,
      reason: 'level_none',
    });
    expect(await start({ cacheWarmingLevel: 'none' }).warmCache()).toMatchObject({ reason: 'level_none' });
  });

  it('an embedded store is warmed, no store is nothing to warm', async () => {
    const embedded = start({ cacheStore: 'embedded', redisHost: undefined, redisPort: undefined });
    expect(await embedded.warmCache()).toMatchObject({ rolesWarmed: 3 });
    const none = start({ cacheStore: 'none', redisHost: undefined, redisPort: undefined });
    const wire = counter.statements;
    expect(await none.warmCache({ level: 'aggressive' })).toMatchObject({
      ...NOTHING,
      skipped: true,
      reason: 'no_store',
    });
    expect(counter.statements).toBe(wire);
  });
});

describe('data sources', () => {
  it('are run, found again, and one that fails stops nobody', async () => {
    const engine = start();
    const { state, one } = source();
    const list = [one(), failing(), one(), one()];
    const stats = await engine.warmCache({ level: 'aggressive', users: 1, dataSources: list });
    expect(stats).toMatchObject({ rolesWarmed: 3, usersWarmed: 1, dataSourcesWarmed: 3, errors: 1 });
    expect(stats.reason).toBeUndefined();
    const other = start();
    for (const { params, queryFunction } of list.filter((_, at) => at !== 1)) {
      expect(await other.queryDataSourceWithCache(params, ['a'], queryFunction)).toMatchObject({
        fromCache: true,
      });
    }
    const again = await engine.warmCache({ level: 'aggressive', users: 0, dataSources: list, force: true });
    expect([again.dataSourcesWarmed, again.errors, state.ran]).toEqual([3, 1, 3]);
  });

  it('belong to the level that has them', async () => {
    const { state, one } = source();
    const stats = await start().warmCache({ level: 'minimal', dataSources: [one()] });
    expect([stats.dataSourcesWarmed, state.ran]).toEqual([0, 0]);
  });

  it.each([
    { cacheBulkhead: 16, concurrency: undefined, most: 8 },
    { cacheBulkhead: 16, concurrency: 3, most: 3 },
    { cacheBulkhead: 6, concurrency: 500, most: 3 },
    { cacheBulkhead: 1, concurrency: undefined, most: 1 },
  ])(
    'at most $most at a time with a bulkhead of $cacheBulkhead',
    async ({ most, cacheBulkhead, ...more }) => {
      const { state, one } = source();
      const dataSources = Array.from({ length: 24 }, one);
      const stats = await start({ cacheBulkhead }).warmCache({ level: 'aggressive', dataSources, ...more });
      expect([stats.dataSourcesWarmed, stats.errors, state.most]).toEqual([24, 0, most]);
    },
  );

  it('a function is told what was asked for most, which is nothing after a start', async () => {
    const engine = start();
    const heard: (readonly string[])[] = [];
    const { one } = source();
    const dataSources = async (mostUsed: readonly string[]) => {
      heard.push(mostUsed);
      return mostUsed.map(() => one());
    };
    const order = { level: 'aggressive', users: 0, dataSources, force: true } as const;
    expect(await engine.warmCache(order)).toMatchObject({ dataSourcesWarmed: 0, errors: 0 });
    const query = async () => ({ data: [] });
    for (const dataSourceId of [7, 3, 7, 'x', 7, 3]) {
      await engine.queryDataSourceWithCache({ dataSourceId }, null, query);
    }
    expect(await engine.warmCache(order)).toMatchObject({ dataSourcesWarmed: 3, errors: 0 });
    // Warming itself is no use.
    await engine.warmCache(order);
    expect(heard).toEqual([[], ['7', '3', 'x'], ['7', '3', 'x']]);
  });

  it.each<[what: string, dataSources: NonNullable<WarmupOptions['dataSources']>]>([
    ['throws', () => Promise.reject(new Error('no'))],
    ['returns no list', () => 5 as never],
    ['returns what is none', () => [{ params: 1 } as never]],
  ])('a function that %s is one failed item', async (_, dataSources) => {
    const stats = await start().warmCache({ level: 'aggressive', users: 0, dataSources });
    expect(stats).toMatchObject({ rolesWarmed: 3, dataSourcesWarmed: 0, errors: 1 });
  });
});

describe('how it goes', () => {
  it('tells its progress, whose listener may throw', async () => {
    const seen: WarmupProgress[] = [];
    const { one } = source();
    const stats = await start().warmCache({
      level: 'aggressive',
      dataSources: [one(), one(), failing()],
      onProgress: (progress) => {
        seen.push(progress);
        throw new Error('the listener is broken');
      },
    });
    expect(stats).toMatchObject({ usersWarmed: 20, dataSourcesWarmed: 2, errors: 1 });
    const stages = seen.map(({ stage }) => stage);
    expect(stages.filter((stage, at) => stage !== stages[at - 1])).toEqual(['roles', 'users', 'dataSources']);
    for (const { done, total } of seen) expect(done <= total).toBe(true);
    expect(seen.at(-1)).toEqual({ stage: 'dataSources', done: 3, total: 3 });
    // Told now and then, so not of every step.
    expect(seen.findLast(({ stage }) => stage === 'users')).toMatchObject({ total: 20 });
  });

  it('health shows it while it runs and what the last one did', async () => {
    const engine = start();
    const idle = { state: 'idle', stage: null, done: 0, total: 0, last: null };
    expect((await engine.getHealth()).warming).toEqual(idle);
    const { dataSource, release } = blocked();
    const running = engine.warmCache({ level: 'aggressive', users: 2, dataSources: [dataSource] });
    await until('it runs queries', async () => (await engine.getHealth()).warming.stage === 'dataSources');
    expect((await engine.getHealth()).warming).toMatchObject({ state: 'running', total: 1, last: null });
    release();
    const stats = await running;
    const { warming, status } = await engine.getHealth();
    expect(warming).toEqual({
      ...idle,
      last: { ...stats, level: 'aggressive', endedAt: expect.stringMatching(/^\d{4}-.*Z$/) },
    });
    expect(status).toBe('healthy');
  });

  it('a second call joins one that does as much: the same figures, one warm-up', async () => {
    const engine = start();
    const heard: string[] = [];
    const [first, second, third] = await Promise.all([
      engine.warmCache({ level: 'aggressive', users: 10 }),
      engine.warmCache({ level: 'minimal', onProgress: ({ stage }) => heard.push(stage) }),
      engine.warmCache({ level: 'aggressive', users: 10 }),
    ]);
    expect(first).toMatchObject({ rolesWarmed: 3, usersWarmed: 10 });
    expect([second, third]).toEqual([first, first]);
    expect(heard).toContain('users');
    expect(engine.getMetrics().source.statementsByName['warm_ids']).toBe(1);
  });

  it('a second call that wants more begins when the first has ended', async () => {
    const engine = start();
    const { dataSource, state, release } = blocked();
    let ended = 0;
    const first = engine.warmCache({ level: 'aggressive', users: 1, dataSources: [dataSource] });
    const second = engine.warmCache({ level: 'aggressive', users: 5, force: true });
    void second.then(() => (ended += 1));
    await until('the query runs', () => state.ran === 1);
    await sleep(100);
    expect([ended, engine.getMetrics().source.statementsByName['warm_ids']]).toEqual([0, 1]);
    release();
    expect(await first).toMatchObject({ usersWarmed: 1, dataSourcesWarmed: 1 });
    expect(await second).toMatchObject({ usersWarmed: 5 });
  });

  it('steps back while others wait for the database', async () => {
    const engine = start({ cacheBulkhead: 2, cacheSourceDeadlineMs: 10_000 });
    await engine.isTokenBlacklisted('the connection');
    const unlock = await db.lock('token_blacklist');
    const reads = Array.from({ length: 3 }, () => engine.isTokenBlacklisted(randomUUID()));
    await until('one waits', () => engine.getMetrics().source.queued === 1);
    const warming = engine.warmCache();
    await sleep(200);
    // It does not even stand in line.
    expect(engine.getMetrics().source.queued).toBe(1);
    await unlock();
    await Promise.all(reads);
    expect(await warming).toMatchObject({ rolesWarmed: 3, errors: 0 });
  });

  it('never takes more than half of what may run', async () => {
    const engine = start({ cacheBulkhead: 6, cacheSourceDeadlineMs: 10_000 });
    const cost = await statementsNamed(engine, () =>
      engine.warmCache({ level: 'aggressive', concurrency: 1_000 }),
    );
    // Four parts and twenty users, three at a time; all at once they would be three statements.
    expect(cost['rbac_parts']).toBeGreaterThanOrEqual(Math.ceil(4 / 3) + Math.ceil(20 / 3));
  });
});

describe('how it ends', () => {
  it('a signal ends it at once, with what was done, and makes room for the next', async () => {
    const engine = start();
    const stop = new AbortController();
    const { dataSource, state } = blocked();
    const order = { level: 'aggressive', users: 3, dataSources: [dataSource, dataSource] } as const;
    const running = engine.warmCache({ ...order, signal: stop.signal });
    await until('the query runs', () => state.ran === 1);
    const began = performance.now();
    stop.abort(new Error('enough'));
    expect(await running).toEqual({
      ...NOTHING,
      rolesWarmed: 3,
      usersWarmed: 3,
      duration: expect.any(Number),
      cancelled: true,
      reason: 'cancelled',
    });
    expect(performance.now() - began).toBeLessThan(500);
    // Its lease was given back, and it left no mark: it was not done.
    expect(await stored('warming')).toEqual([]);
    expect(await engine.warmCache({ level: 'aggressive', users: 1 })).toMatchObject({ usersWarmed: 1 });
    expect(await engine.warmCache({ signal: stop.signal })).toMatchObject({ skipped: true, cancelled: true });
  });

  it('a signal in the middle of loads ends it at once; what it holds is given back', async () => {
    const engine = start({ cacheSourceDeadlineMs: 10_000 });
    await engine.isTokenBlacklisted('the connection');
    const stop = new AbortController();
    const unlock = await db.lock('role_permissions');
    const running = engine.warmCache({ signal: stop.signal });
    await until('it loads roles', () => engine.getMetrics().source.statementsByName['rbac_parts'] === 1);
    stop.abort();
    expect(await running).toMatchObject({ ...NOTHING, cancelled: true });
    await unlock();
    // Nobody has to wait for the end of a lease: what was loading is there.
    const other = start();
    const role = roles[0] ?? '';
    const began = performance.now();
    expect(await other.getCachedRolePermissions(role)).toMatchObject({ role_id: role });
    expect(performance.now() - began).toBeLessThan(900);
  });

  it('a joined call can leave; the other goes on', async () => {
    const engine = start();
    const stop = new AbortController();
    const { dataSource, state, release } = blocked();
    const first = engine.warmCache({ level: 'aggressive', users: 2, dataSources: [dataSource] });
    const second = engine.warmCache({ level: 'minimal', signal: stop.signal });
    await until('the query runs', () => state.ran === 1);
    stop.abort();
    expect(await second).toMatchObject({ rolesWarmed: 3, usersWarmed: 2, cancelled: true });
    release();
    expect(await first).toMatchObject({ dataSourcesWarmed: 1 });
  });

  it('a time limit ends it', async () => {
    const { dataSource } = blocked();
    const order = { level: 'aggressive', users: 1, dataSources: [dataSource], deadlineMs: 300 } as const;
    const stats = await start().warmCache(order);
    expect(stats).toMatchObject({ rolesWarmed: 3, usersWarmed: 1, dataSourcesWarmed: 0, reason: 'deadline' });
    expect(stats.cancelled).toBeUndefined();
  });

  it('without the store nothing is asked for', async () => {
    await proxy.set({ refuseConnections: true });
    const engine = start({ redisPort: proxy.port });
    await until('it is noticed', () => !engine.isRedisAvailable());
    const wire = counter.statements;
    const { state, one } = source();
    const stats = await engine.warmCache({ level: 'aggressive', dataSources: [one()] });
    expect(stats).toMatchObject({ ...NOTHING, skipped: true, reason: 'store_unavailable' });
    expect([counter.statements - wire, state.ran]).toEqual([0, 0]);
  });

  it('a store that goes away in the middle ends it before the database is asked for the rest', async () => {
    const engine = start({ redisPort: proxy.port, cacheSourceDeadlineMs: 10_000 });
    // Roles and users are read by one statement: those that are there need none.
    await engine.warmCache({ level: 'minimal' });
    const unlock = await db.lock('user_organizations');
    const running = engine.warmCache({ level: 'aggressive' });
    await until('the first users are loaded', async () => {
      const { stage } = (await engine.getHealth()).warming;
      return stage === 'users' && engine.getMetrics().source.inFlight > 0;
    });
    await proxy.set({ refuseConnections: true });
    await until('it is noticed', async () => {
      await engine.getCachedTokenBlacklistStatus('a');
      return !engine.isRedisAvailable();
    });
    await unlock();
    expect(await running).toMatchObject({ usersWarmed: 0, reason: 'store_unavailable' });
    // Of twenty users at most the eight of the step that ran.
    expect(engine.getMetrics().source.statementsByName['rbac_context']).toBeLessThanOrEqual(8);
  });

  it('a store that goes away while queries run spares the application the rest', async () => {
    const engine = start({ redisPort: proxy.port });
    const { dataSource, state, release } = blocked();
    const rest = source();
    const running = engine.warmCache({
      level: 'aggressive',
      users: 0,
      concurrency: 1,
      dataSources: [dataSource, rest.one(), rest.one()],
    });
    await until('the query runs', () => state.ran === 1);
    await proxy.set({ refuseConnections: true });
    await until('it is noticed', async () => {
      await engine.getCachedTokenBlacklistStatus('a');
      return !engine.isRedisAvailable();
    });
    release();
    expect(await running).toMatchObject({ rolesWarmed: 3, reason: 'store_unavailable' });
    expect(rest.state.ran).toBe(0);
  });

  it('without the database the data sources are warmed all the same', async () => {
    const engine = start({ databaseUrl: 'postgres://nobody@127.0.0.1:1/none' });
    const { one } = source();
    const stats = await engine.warmCache({ level: 'aggressive', dataSources: [one()] });
    expect(stats).toMatchObject({
      ...NOTHING,
      dataSourcesWarmed: 1,
      errors: 1,
      reason: 'source_unavailable',
    });
  });

  it('a database that does not take the statement is one error', async () => {
    await db.query('ALTER TABLE users RENAME TO nobody');
    expect(await start().warmCache()).toMatchObject({
      ...NOTHING,
      errors: 1,
      reason: 'source_unavailable',
    });
  });

  it('closing ends one that runs, and refuses later ones', async () => {
    const engine = start();
    const { dataSource, state } = blocked();
    const running = engine.warmCache({ level: 'aggressive', users: 1, dataSources: [dataSource] });
    await until('the query runs', () => state.ran === 1);
    const began = performance.now();
    await engine.close();
    expect(performance.now() - began).toBeLessThan(2_000);
    expect(await running).toMatchObject({ rolesWarmed: 3, usersWarmed: 1, reason: 'closed' });
    await expect(engine.warmCache()).rejects.toMatchObject({ code: 'E_CLOSED' });
  });

  it.each<[field: string, options: unknown]>([
    ['options', 5],
    ['options', []],
    ['level', { level: 'all' }],
    ['users', { users: -1 }],
    ['users', { users: 1.5 }],
    ['users', { users: 10_001 }],
    ['concurrency', { concurrency: 0 }],
    ['concurrency', { concurrency: 1_001 }],
    ['force', { force: 1 }],
    ['onProgress', { onProgress: 'x' }],
    ['signal', { signal: {} }],
    ['deadlineMs', { deadlineMs: 0 }],
    ['dataSources', { dataSources: 'x' }],
    ['dataSources', { dataSources: Array.from({ length: 1_001 }, () => failing()) }],
    ['dataSources[0]', { dataSources: [null] }],
    ['dataSources[1]', { dataSources: [failing(), { params: {} }] }],
    ['user', { user: 100 }],
  ])('refuses a wrong %s', async (field, options) => {
    const refused = start().warmCache(options as WarmupOptions);
    await expect(refused).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field });
  });
});
