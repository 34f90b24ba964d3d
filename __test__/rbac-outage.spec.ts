/**
 * Contexts and requests while the store, the source or both are away: the truth, or an error that says which tier failed,
 * in time. Not what a store says that lies: that is `rbac-lies`.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BcosCacheError, type Engine, type EngineOptions } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import type { Database } from './support/database.js';
import { Engines, outcome, statementsOf, until } from './support/engines.js';
import { timed } from './support/functions.js';
import { FIRST_CALL_MS, pending, RECOVERY_MS, reaching, STORE_DEADLINE_MS } from './support/outage.js';
import { statementsNamed } from './support/rbac-behaviour.js';
import { createRbacTables } from './support/rbac-data.js';
import { wrong } from './support/rbac-judge.js';
import { type Expected, Oracle } from './support/rbac-oracle.js';
import { postgres } from './support/rbac-suite.js';
import { aPerson, type Person, RbacWorld } from './support/rbac-world.js';
import { claimsOf, signed, verified } from './support/tokens.js';

const SOURCE_DEADLINE_MS = 400;
/** A call may ask the source twice and meet a slow store in between; the rest is room for a busy machine. */
const IN_TIME_MS = 2 * SOURCE_DEADLINE_MS + 2 * STORE_DEADLINE_MS + 400;

const databases = postgres();
let db: Database;
let world: RbacWorld;
let oracle: Oracle;
let server: Server;
let proxy: FaultProxy;
let engines: Engines;
/** Reaches the store through the proxy. */
let engine: Engine;
/** Reaches it directly. */
let other: Engine;
let person: Person;

const start = (...options: EngineOptions[]): Engine =>
  engines.start({ databaseUrl: db.url, cacheSourceDeadlineMs: SOURCE_DEADLINE_MS }, ...options);

beforeAll(async () => {
  db = await databases().create();
  await createRbacTables(db);
  world = new RbacWorld(db);
  server = await startValkey();
  proxy = await startProxy({ port: server.port });
  oracle = await Oracle.of(db);
});
afterAll(async () => {
  await oracle?.[Symbol.asyncDispose]();
  await proxy?.stop();
  await server?.stop();
});
beforeEach(async () => {
  engines = new Engines();
  [engine, other] = [start(reaching(proxy)), start(reaching(server), { cacheDeadlineMs: 2_000 })];
  person = await aPerson(world);
  await other.invalidateOrganizationHierarchy();
  // Both have everything near, from a store in service.
  for (const by of [engine, other]) {
    await until('the store answers', async () => {
      const cost = await statementsOf(by, () => by.getCachedUserContext(person.user));
      return by.isRedisAvailable() && cost === 0;
    });
  }
});
afterEach(async () => {
  await proxy.reset();
  await engines[Symbol.asyncDispose]();
});

const rename = (name: string) =>
  db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [person.user, name]);

async function check(by: Engine, user = person.user, expected?: Expected): Promise<void> {
  const told = await outcome(by.getCachedUserContext(user));
  expect(wrong(told, expected ?? (await oracle.one(user)))).toBeUndefined();
}

describe.each([
  ['refuses connections', { refuseConnections: true }],
  ['swallows everything', { blackhole: true }],
  ['answers garbage', { garbageReplies: true }],
])('the store %s', (_, faults) => {
  it('and every context is one statement of the source, right and in time', async () => {
    await proxy.set(faults);
    const expected = await oracle.one(person.user);
    const first = await timed(() => engine.getCachedUserContext(person.user));
    expect('value' in first && first.ms < FIRST_CALL_MS, JSON.stringify(first)).toBe(true);
    await until('the outage is noticed', () => !engine.isRedisAvailable(), 1_000);
    for (let round = 0; round < 5; round += 1) {
      const cost = await statementsNamed(engine, () => check(engine, person.user, expected));
      expect(cost).toEqual({ rbac_context: 1 });
    }
    expect(await engine.getCachedRolePermissions(person.viewer)).toEqual(
      (await oracle.roles()).get(person.viewer),
    );
    const request = { userId: person.user, permission: 'analytics:read:own' };
    expect(await engine.authorizeRequest(request)).toMatchObject({ ok: true });
    const bounded = await engine.getCachedUserContext(person.user, { consistency: 'bounded' });
    expect(wrong({ value: bounded }, expected)).toBeUndefined();
  });

  it('and requests count here, in time, or are refused where that is asked for', async () => {
    await proxy.set(faults);
    const limit = { type: 'request', identifier: randomUUID(), limit: 20, windowSeconds: 60 };
    const ask = (more: object = {}) =>
      engine.authorizeRequest({ userId: person.user, limit: { ...limit, ...more } });
    const first = await timed(() => ask());
    expect(first).toMatchObject({ value: { ok: true, rateLimit: { allowed: true, degraded: true } } });
    expect(first.ms).toBeLessThan(FIRST_CALL_MS);
    await until('the outage is noticed', () => !engine.isRedisAvailable(), 1_000);
    const { rateLimit } = await ask();
    const { rateLimit: next } = await ask();
    expect(next).toMatchObject({ allowed: true, degraded: true });
    expect(next?.remaining).toBe((rateLimit?.remaining ?? 0) - 1);
    const cost = await statementsOf(engine, async () => {
      expect(await ask({ identifier: randomUUID(), onStoreFailure: 'closed' })).toMatchObject({
        ...{ ok: false, reason: 'unavailable', status: 503 },
        rateLimit: { allowed: false, unavailable: true },
      });
    });
    expect(cost).toBe(0);
  });

  it('and invalidations are queued, in effect here at once, and everywhere after its return', async () => {
    await proxy.set(faults);
    await outcome(engine.getCachedUserContext(person.user));
    await until('the outage is noticed', () => !engine.isRedisAvailable(), 1_000);
    await rename('Grace');
    await db.query('DELETE FROM role_permissions WHERE permission_id = $1', [person.reading]);
    await db.query(`UPDATE organizations SET practice_uids = '{77}' WHERE organization_id = $1`, [
      person.child,
    ]);
    const done = await Promise.all([
      engine.invalidateUserContext(person.user),
      engine.invalidateRolePermissions(person.viewer),
      engine.invalidateOrganizationHierarchy(),
      engine.invalidateUsersWithRole(person.admin),
      engine.invalidateOrganizationMembers(person.top),
      engine.invalidateAllRolePermissions(),
    ]);
    for (const one of done) expect(one).toEqual({ acknowledged: false, queued: true });
    for (let round = 0; round < 3; round += 1) await check(engine);
    await proxy.reset();
    await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS + 1_000);
    for (let round = 0; round < 3; round += 1) await check(engine);
    await until('everything queued was applied', () => pending(engine) === 0, RECOVERY_MS);
    for (const by of [other, engine]) await check(by);
  });
});

describe('the source is away', () => {
  beforeEach(() => databases().server.pause());
  afterEach(() => databases().server.resume());

  it('and what is cached is answered, what is not is an error and never a refusal', async () => {
    for (const by of [engine, other]) {
      expect((await by.getCachedUserContext(person.user)).user_id).toBe(person.user);
      expect((await by.getCachedRolePermissions(person.viewer))?.role_id).toBe(person.viewer);
      const request = { userId: person.user, permission: 'analytics:read:own' };
      expect(await by.authorizeRequest(request)).toMatchObject({ ok: true });
    }
    for (const call of [
      () => engine.getCachedUserContext(randomUUID()),
      () => engine.getCachedUserContext(person.user, { consistency: 'fresh' }),
      () => engine.getCachedRolePermissions(randomUUID()),
    ]) {
      const ended = await timed(call);
      expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
      expect(ended.ms).toBeLessThan(IN_TIME_MS);
    }
    const unavailable = {
      ok: false,
      reason: 'unavailable',
      status: 503,
      retryAfterMs: 1_000,
      cause: { code: 'E_SOURCE_UNAVAILABLE' },
    };
    expect(await engine.authorizeRequest({ userId: randomUUID() })).toMatchObject(unavailable);
    const token = signed(claimsOf(person.user));
    expect(await engine.authorizeRequest({ token, verify: verified })).toMatchObject(unavailable);
  });

  it('and the store with it: an error in time, also for a deadline of the call', async () => {
    await proxy.set({ blackhole: true });
    for (let round = 0; round < 3; round += 1) {
      const ended = await timed(() => engine.getCachedUserContext(person.user));
      expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
      expect(ended.ms).toBeLessThan(IN_TIME_MS);
    }
    const short = await timed(() => engine.getCachedUserContext(person.user, { deadlineMs: 60 }));
    expect(short.ms).toBeLessThan(60 + 200);
    // Whichever is noticed first: that time is up, or that the source does not answer at all.
    const { code } =
      'error' in short && short.error instanceof BcosCacheError ? short.error : { code: short };
    expect(['E_DEADLINE', 'E_SOURCE_UNAVAILABLE']).toContain(code);
    const request = engine.authorizeRequest(
      { userId: person.user, tokenId: randomUUID() },
      { deadlineMs: 60 },
    );
    expect(await request).toMatchObject({ ok: false, reason: 'unavailable', status: 503 });
  });
});

it.each([
  ['refuses connections', { refuseConnections: true }],
  ['cuts replies in half', { truncateReplies: true }],
  ['answers garbage', { garbageReplies: true }],
])(
  'a token revoked without a row stays revoked here while announcements come and go: the store %s',
  async (_, faults) => {
    // Whoever asks for a bounded context listens to announcements from then on.
    await until('announcements are heard', async () => {
      await engine.getCachedUserContext(person.user, { consistency: 'bounded' });
      return (await engine.getHealth()).store.subscription === 'healthy';
    });
    const jti = randomUUID();
    expect(await engine.isTokenBlacklisted(jti)).toBe(false);
    await proxy.set(faults);
    await until('the outage is noticed', async () => {
      await outcome(engine.getCachedUserContext(person.user));
      return !engine.isRedisAvailable();
    });
    expect(await engine.invalidateTokenCache(jti)).toEqual({ acknowledged: false, queued: true });
    const answers = new Set<boolean>();
    const askFor = async (ms: number) => {
      for (const end = Date.now() + ms; Date.now() < end; await sleep(2)) {
        answers.add(await engine.isTokenBlacklisted(jti));
      }
    };
    await askFor(800);
    await proxy.reset();
    await askFor(1_500);
    expect([...answers]).toEqual([true]);
  },
);

it('a closed engine refuses with E_CLOSED, and a request is not turned away for it', async () => {
  await engine.close();
  const calls = [
    () => engine.getCachedUserContext(person.user),
    () => engine.getCachedUserContext(person.user, { consistency: 'bounded' }),
    () => engine.getCachedRolePermissions(person.viewer),
    () => engine.authorizeRequest({ userId: person.user }),
    () => engine.invalidateUserContext(person.user),
    () => engine.invalidateAllRolePermissions(),
  ];
  for (const call of calls)
    expect(await outcome<unknown>(call())).toMatchObject({ error: { code: 'E_CLOSED' } });
});
