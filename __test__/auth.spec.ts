/**
 * Tokens, users and JWT payloads behave the same on every store, with a real Postgres behind. Not the outages: those
 * have a spec of their own; here a cluster changes its masters and everything still holds.
 */
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions } from '../index.js';
import { type FaultProxy, startProxy } from './servers/index.mjs';
import {
  type Context,
  limits,
  payloads,
  races,
  tokens,
  twoInstances,
  users,
} from './support/auth-behaviour.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { type StoreKind, simpleStores, stores, type TestStore, valkey } from './support/stores.js';
import { claimsOf, signed, verified } from './support/tokens.js';

let databases: Databases;
/** Holds every reply of Postgres back, so that a load can be overtaken. */
let late: FaultProxy;
beforeAll(async () => {
  databases = await Databases.start();
  late = await startProxy({ port: databases.server.port, delayMs: 120 });
});
afterAll(async () => {
  await late?.stop();
  await databases?.[Symbol.asyncDispose]();
});

/** Starts a store, a database and two engines for the suite around. */
function suite(kind: StoreKind): { context: () => Context; store: () => TestStore; engines: Engines } {
  const engines = new Engines();
  let store: TestStore;
  let context: Context;
  beforeAll(async () => {
    store = await kind.start();
    const db = await databases.create();
    const options = { ...store.options, databaseUrl: db.url, cacheSourceDeadlineMs: 10_000 };
    const slow = { databaseUrl: db.url.replace(/:\d+\//, `:${late.port}/`), databasePoolMax: 1 };
    context = {
      db,
      engine: engines.start(options),
      second: engines.start(options),
      slow: engines.start(options, slow),
    };
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  return { context: () => context, store: () => store, engines };
}

function everything(kind: StoreKind, context: () => Context): void {
  describe('tokens', () => tokens(kind, context));
  describe('users', () => users(kind, context));
  describe('payloads', () => payloads(kind, context));
  describe('limits of a call', () => limits(context));
  describe('races', () => races(kind, context));
  if (kind.shared) describe('two instances', () => twoInstances(context));
}

describe.each(stores.filter((kind) => !kind.clustered))('$name', (kind) => {
  const { context, store } = suite(kind);
  everything(kind, context);

  it('says what it runs on', async () => {
    const { store: found, source, status } = await context().engine.getHealth();
    const name = store().options.cacheStore ?? 'valkey';
    const expected = { kind: name, mode: kind.mode, status: kind.caches ? 'healthy' : 'not-configured' };
    expect(found).toMatchObject(expected);
    expect([source.status, status]).toEqual(['healthy', 'healthy']);
    expect(context().engine.isRedisAvailable()).toBe(kind.caches);
  });
});

describe.each(simpleStores.filter((kind) => kind.clustered))('$name', (kind) => {
  const { context, store } = suite(kind);

  /** The store has to be in service again on both instances, else a test would count statements of an outage. */
  async function settled(): Promise<void> {
    await store().cluster?.ready();
    const engines = [context().engine, context().second];
    await until('both engines use the store', async () => {
      const used = engines.map(async (engine) => {
        const ids = Array.from({ length: 40 }, () => randomUUID());
        const before = engine.getMetrics().store.errors;
        await Promise.all(ids.map((id) => engine.getCachedTokenBlacklistStatus(id)));
        return engine.isRedisAvailable() && engine.getMetrics().store.errors === before;
      });
      return (await Promise.all(used)).every(Boolean);
    });
  }

  describe('as it started', () => {
    everything(kind, context);

    it('says that it is a cluster', async () => {
      expect((await context().engine.getHealth()).store).toMatchObject({ kind: 'valkey', mode: 'cluster' });
    });
  });

  describe.each([
    ['a graceful failover', (cluster: NonNullable<TestStore['cluster']>) => cluster.failover(0)],
    ['a killed master', (cluster: NonNullable<TestStore['cluster']>) => cluster.killMaster(1)],
  ])('after %s', (name, disturb) => {
    it('no token revoked before, meanwhile or afterwards counts again', async () => {
      const { engine, second } = context();
      const cluster = store().cluster;
      if (cluster === undefined) throw new Error('a clustered store has a cluster');
      let over = false;
      const disturbance = disturb(cluster)
        .then(() => cluster.ready())
        .finally(() => {
          over = true;
        });
      const acknowledged: string[] = [];
      // After the cluster is whole again the engine has up to two seconds to notice.
      for (let after = 0; after < 50 || (acknowledged.length === 0 && after < 400); after += over ? 1 : 0) {
        const jti = randomUUID();
        expect(await second.isTokenBlacklisted(jti)).toBe(false);
        const { acknowledged: done, queued } = await engine.invalidateTokenCache(jti);
        expect(done || queued, name).toBe(true);
        expect(await engine.isTokenBlacklisted(jti)).toBe(true);
        if (done) {
          acknowledged.push(jti);
          // Acknowledged: the other instance must know, unless the only copy died with its master unreplicated.
          if (name === 'a graceful failover')
            expect([jti, await second.isTokenBlacklisted(jti)]).toEqual([jti, true]);
        }
        await sleep(5);
      }
      await disturbance;
      await settled();
      expect(acknowledged.length).toBeGreaterThan(0);
      for (const jti of acknowledged)
        expect([jti, await engine.isTokenBlacklisted(jti)]).toEqual([jti, true]);
    });

    everything(kind, context);
  });
});

describe('entries', () => {
  const { context, store, engines } = suite(valkey);

  it('lie under the prefix, one key each, and live as long as the specification says', async () => {
    const { db } = context();
    const engine = engines.start(store().options, { databaseUrl: db.url, redisKeyPrefix: 'tenant-b:' });
    const { user_id: id, email } = await db.addUser();
    const claims = claimsOf(id);
    const [clean, revoked] = [randomUUID(), randomUUID()];
    await engine.isTokenBlacklisted(clean);
    await engine.invalidateTokenCache(revoked);
    await engine.getUserByEmail(email);
    await engine.verifyTokenCached(signed(claims), verified);
    const digest = createHash('sha256').update(email).digest('hex');
    const lives: readonly [key: string, seconds: number][] = [
      [`token_bl:${clean}`, 60],
      [`token_bl:${revoked}`, 3_600],
      [`user_basic:${id}`, 300],
      [`user_email:${digest}`, 300],
      [`jwt_payload:${claims.jti}`, 300],
      [`jwt_user:${id}`, 86_400],
    ];
    const keys = (await store().dump()).map(([key]) => key).filter((key) => key.startsWith('tenant-b:'));
    expect(keys.sort()).toEqual(lives.map(([key]) => `tenant-b:${key}`).sort());
    for (const [key, seconds] of lives) {
      const left = Number(await store().command('PTTL', `tenant-b:${key}`)) / 1_000;
      expect([key, left > seconds - 10 && left <= seconds]).toEqual([key, true]);
    }
  });

  it('under another prefix are another cache', async () => {
    const { db, engine } = context();
    const other = engines.start(store().options, { databaseUrl: db.url, redisKeyPrefix: 'tenant-c:' });
    const jti = randomUUID();
    await engine.invalidateTokenCache(jti);
    expect([await engine.isTokenBlacklisted(jti), await other.isTokenBlacklisted(jti)]).toEqual([
      true,
      false,
    ]);
  });

  it('are printable, with a header of 32 bytes in front of the JSON', async () => {
    const { db, engine } = context();
    const { user_id: id } = await db.addUser();
    const user = await engine.getUserById(id);
    const value = String(await store().command('GET', `user_basic:${id}`));
    expect(value.slice(0, 32)).toMatch(/^b1v-[0-9a-f]{2}\.[0-9a-f]{8}[0-9a-f]{16} $/);
    expect(JSON.parse(value.slice(32))).toEqual(user);
  });
});

describe('near: bounded', () => {
  const { context, store, engines } = suite(valkey);
  const near: EngineOptions = { near: { user_basic: { mode: 'bounded', maxAgeMs: 5_000 } } };
  let proxy: FaultProxy;
  beforeAll(async () => {
    proxy = await startProxy({ port: store().options.redisPort ?? 0 });
  });
  afterAll(() => proxy?.stop());

  const listening = (options: EngineOptions) =>
    engines.start(store().options, { databaseUrl: context().db.url }, near, options);
  const rename = (db: Database, id: string, name: string) =>
    db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [id, name]);
  const health = async (engine: Context['engine']) => (await engine.getHealth()).store.subscription;

  it('answers without a round trip, and hears of an invalidation elsewhere within 200 ms', async () => {
    const { db, second } = context();
    const bounded = listening({});
    const { user_id: id } = await db.addUser({ first_name: 'Name 0' });
    await bounded.getUserById(id);
    await until('the subscription is healthy', async () => (await health(bounded)) === 'healthy');
    for (let round = 1; round <= 10; round += 1) {
      await bounded.getUserById(id);
      const before = bounded.getMetrics().namespaces.user_basic;
      const user = await bounded.getUserById(id);
      const after = bounded.getMetrics().namespaces.user_basic;
      expect(user?.first_name).toBe(`Name ${round - 1}`);
      expect([after.near - before.near, after.store - before.store]).toEqual([1, 0]);
      await rename(db, id, `Name ${round}`);
      await second.invalidateUserCache(id);
      await sleep(200);
      expect((await bounded.getUserById(id))?.first_name).toBe(`Name ${round}`);
    }
  });

  it('sees its own invalidation at once', async () => {
    const { db } = context();
    const bounded = listening({});
    const { user_id: id } = await db.addUser();
    for (const name of ['Grace', 'Barbara', 'Hedy']) {
      await bounded.getUserById(id);
      await rename(db, id, name);
      await bounded.invalidateUserCache(id);
      expect((await bounded.getUserById(id))?.first_name).toBe(name);
    }
  });

  it('asks the store again once the connection of its subscription is cut', async () => {
    const { db, second } = context();
    const bounded = listening({ redisPort: proxy.port });
    const { user_id: id } = await db.addUser({ first_name: 'Old' });
    await bounded.getUserById(id);
    await until('the subscription is healthy', async () => (await health(bounded)) === 'healthy');
    await bounded.getUserById(id);
    await proxy.set({ refuseConnections: true });
    await until('the cut is noticed', async () => (await health(bounded)) === 'unhealthy', 3_000);
    await rename(db, id, 'New');
    await second.invalidateUserCache(id);
    expect((await bounded.getUserById(id))?.first_name).toBe('New');
    await proxy.reset();
    await until('the subscription is healthy again', async () => (await health(bounded)) === 'healthy');
    await until('the near cache answers again', async () => {
      const before = bounded.getMetrics().namespaces.user_basic.near;
      expect((await bounded.getUserById(id))?.first_name).toBe('New');
      return bounded.getMetrics().namespaces.user_basic.near > before;
    });
  });

  it('asks the store when announcements stop although the connection stays', async () => {
    const { db, second } = context();
    const bounded = listening({ redisPort: proxy.port });
    const { user_id: id } = await db.addUser({ first_name: 'Old' });
    await bounded.getUserById(id);
    await until('the subscription is healthy', async () => (await health(bounded)) === 'healthy');
    await bounded.getUserById(id);
    await proxy.set({ blackhole: true });
    await until('the silence is noticed', async () => (await health(bounded)) === 'unhealthy', 5_000);
    await rename(db, id, 'New');
    await second.invalidateUserCache(id);
    expect((await bounded.getUserById(id))?.first_name).toBe('New');
    await proxy.reset();
  });
});

describe('the source behind', () => {
  const { context, engines } = suite(valkey);

  it('refuses with E_OVERLOADED what finds no room in the queue for the source', async () => {
    const { db } = context();
    const narrow = engines.start({ databaseUrl: db.url, cacheBulkhead: 1, cacheBulkheadQueue: 1 });
    const unlock = await db.lock('users');
    const calls = Array.from({ length: 3 }, () => narrow.getUserById(randomUUID()));
    const refused = await Promise.race(
      calls.map((call) =>
        call.then(
          () => undefined,
          (error: unknown) => error,
        ),
      ),
    );
    await unlock();
    await Promise.allSettled(calls);
    expect(refused).toMatchObject({ name: 'OverloadedError', code: 'E_OVERLOADED', retryable: true });
  });

  it('reads tables and columns under the names an application gave them', async () => {
    const { db } = context();
    await db.query('CREATE SCHEMA ih2');
    await db.query(
      'CREATE TABLE ih2."People" AS SELECT user_id AS "Id", email AS mail, * FROM public.users LIMIT 0',
    );
    const id = randomUUID();
    await db.query(
      `INSERT INTO ih2."People" ("Id", mail, first_name, last_name, is_active) VALUES ($1, 'm', 'F', 'L', true)`,
      [id],
    );
    const mapped = engines.start({
      databaseUrl: db.url,
      cacheSchemaAllow: ['public', 'ih2'],
      schema: { users: { schema: 'ih2', table: 'People', columns: { user_id: 'Id', email: 'mail' } } },
    });
    expect(await mapped.getUserById(id)).toMatchObject({ user_id: id, email: 'm', created_at: null });
    expect(await mapped.getUserByEmail('m')).toMatchObject({ user_id: id });
  });

  it('works through a pooler: no named statement stays on a connection', async () => {
    const { db } = context();
    const pooled = engines.start({ databaseUrl: db.url, databasePgbouncer: true, databasePoolMax: 1 });
    const row = await db.addUser();
    for (let round = 0; round < 3; round += 1)
      expect((await pooled.getUserById(row.user_id))?.email).toBe(row.email);
    expect(await pooled.isTokenBlacklisted(randomUUID())).toBe(false);
  });

  it('after close every function rejects with E_CLOSED', async () => {
    const { db } = context();
    const closed = engines.start({ databaseUrl: db.url, cacheStore: 'embedded' });
    const { user_id: id } = await db.addUser();
    const [known, unknown] = [randomUUID(), randomUUID()];
    await closed.invalidateTokenCache(known);
    await closed.getUserById(id);
    await Promise.all([closed.close(), closed.close()]);
    const calls = [
      closed.isTokenBlacklisted(unknown),
      closed.isTokenBlacklisted(known),
      closed.getUserById(id),
      closed.invalidateUserCache(id),
      closed.verifyTokenCached('a.b.c', () => ({})),
    ];
    for (const ended of await Promise.all(calls.map((call) => outcome<unknown>(call)))) {
      expect(ended).toMatchObject({ error: { name: 'ClosedError', code: 'E_CLOSED', retryable: false } });
    }
  });
});
