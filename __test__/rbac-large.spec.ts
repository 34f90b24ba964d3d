/**
 * What takes many users, or time, on a real Valkey: one role of 20,000 users, consistency `bounded` under trouble, and the
 * sampler. Not a benchmark: times are printed, bounds are about numbers of commands and statements.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type FaultProxy, startProxy } from './servers/index.mjs';
import { statementsOf, until } from './support/engines.js';
import { newPerson, right } from './support/rbac-behaviour.js';
import { postgres, suite, tripsOf } from './support/rbac-suite.js';
import { insertRows } from './support/rbac-tables.js';
import { aMembership, anAssignment, aUser } from './support/rbac-world.js';
import { rounds } from './support/rounds.js';
import { valkey } from './support/stores.js';

const databases = postgres();

describe('a role of 20,000 users', () => {
  const { context, store } = suite(databases, valkey);
  const USERS = rounds(20_000, 1_000);
  const AT_ONCE = 500;

  it('changes for all of them by one invalidation', { timeout: 300_000 }, async () => {
    const { db, engine, second } = context();
    const { viewer, reading, top } = await newPerson(context());
    const ids = Array.from({ length: USERS }, () => randomUUID());
    await insertRows(db, {
      users: ids.map((user_id) => aUser({ user_id })),
      user_roles: ids.map((id) => anAssignment(id, viewer)),
      user_organizations: ids.map((id) => aMembership(id, top)),
    });
    await db.query('ANALYZE');
    await engine.invalidateOrganizationHierarchy();
    const permitted = async (by: Engine): Promise<number> => {
      let count = 0;
      for (let first = 0; first < USERS; first += AT_ONCE) {
        const some = ids.slice(first, first + AT_ONCE).map((id) => by.getCachedUserContext(id));
        for (const { all_permissions: all } of await Promise.all(some)) {
          count += all.some((permission) => permission.permission_id === reading) ? 1 : 0;
        }
      }
      return count;
    };
    const timed = async <T>(action: () => Promise<T>): Promise<[T, number]> => {
      const start = performance.now();
      return [await action(), Math.round(performance.now() - start)];
    };
    const [all, coldMs] = await timed(() => permitted(engine));
    const [again, warmMs] = await timed(() => permitted(second));
    expect([all, again]).toEqual([USERS, USERS]);

    const keys = Number(await store().command('DBSIZE'));
    await db.query('DELETE FROM role_permissions WHERE permission_id = $1', [reading]);
    const before = engine.getMetrics().store.commands;
    const [done, invalidateMs] = await timed(() => engine.invalidateRolePermissions(viewer, 'narrowed'));
    const commands = engine.getMetrics().store.commands - before;
    expect(done).toEqual({ acknowledged: true, queued: false });
    expect(commands).toBeLessThanOrEqual(4);
    expect(keys - Number(await store().command('DBSIZE'))).toBeLessThanOrEqual(1);

    const asked = second.getMetrics().store.commands;
    let seen = 0;
    let seenMs = 0;
    const statements = await statementsOf(second, async () => {
      [seen, seenMs] = await timed(() => permitted(second));
    });
    const each = (second.getMetrics().store.commands - asked) / USERS;
    console.info(
      `${USERS} users: cold ${coldMs} ms, warm elsewhere ${warmMs} ms; role changed in ${invalidateMs} ms with ` +
        `${commands} commands; all read anew in ${seenMs} ms, ${each.toFixed(2)} commands each, ${statements} statements`,
    );
    expect([seen, statements]).toEqual([0, 1]);
    expect(await permitted(engine)).toBe(0);
  });
});

describe('consistency: bounded', () => {
  const { context, store, engines } = suite(databases, valkey);
  const BOUND_MS = 800;
  let proxy: FaultProxy;
  beforeAll(async () => {
    proxy = await startProxy({ port: store().options.redisPort ?? 0 });
  });
  afterAll(() => proxy?.stop());

  const listening = (options: EngineOptions = {}) =>
    engines.start(store().options, { databaseUrl: context().db.url, rbacBoundedMs: BOUND_MS }, options);
  const bounded = (by: Engine, user: string) => by.getCachedUserContext(user, { consistency: 'bounded' });
  const near = (by: Engine, user: string) =>
    until('it is answered without a round trip', async () => {
      await bounded(by, user);
      return (await tripsOf(by, () => bounded(by, user))) === 0;
    });
  const rename = (user: string, name: string) =>
    context().db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [user, name]);

  it('answers without a round trip, with the object of before', async () => {
    const { user } = await newPerson(context());
    const by = listening();
    await near(by, user);
    const first = await bounded(by, user);
    const { submitted } = by.getMetrics().bridge;
    expect(await bounded(by, user)).toBe(first);
    expect(by.getMetrics().bridge.submitted).toBe(submitted);
  });

  it('hears of an invalidation elsewhere within the bound, whatever it was', async () => {
    const { db, second } = context();
    const by = listening();
    const person = await newPerson(context());
    const { user, viewer, child } = person;
    const elsewhere: readonly [sql: string, id: string, () => Promise<unknown>][] = [
      [
        `UPDATE users SET first_name = 'G' WHERE user_id = $1`,
        user,
        () => second.invalidateUserContext(user),
      ],
      [
        `UPDATE roles SET name = 'G' WHERE role_id = $1`,
        viewer,
        () => second.invalidateRolePermissions(viewer),
      ],
      [
        'UPDATE organizations SET is_active = NULL WHERE organization_id = $1',
        child,
        () => second.invalidateOrganizationHierarchy(),
      ],
      ['DELETE FROM user_roles WHERE role_id = $1', viewer, () => second.invalidateUsersWithRole(viewer)],
    ];
    await second.invalidateOrganizationHierarchy();
    for (const [sql, id, invalidate] of elsewhere) {
      await near(by, user);
      await db.query(sql, [id]);
      await invalidate();
      await sleep(Math.min(BOUND_MS, 200));
      await right(context(), by, user, 'bounded');
    }
  });

  it('sees its own invalidation at once, and validated is never near', async () => {
    const { user } = await newPerson(context());
    const by = listening();
    for (const name of ['Grace', 'Hedy', 'Barbara']) {
      await near(by, user);
      await rename(user, name);
      await by.invalidateUserContext(user);
      expect((await bounded(by, user)).first_name).toBe(name);
    }
    await near(by, user);
    expect(await tripsOf(by, () => by.getCachedUserContext(user))).toBe(1);
  });

  it.each([
    ['cut', { refuseConnections: true }],
    ['silent', { blackhole: true }],
  ])('is never later than the bound while the subscription is %s', async (_, faults) => {
    const { second } = context();
    const { user } = await newPerson(context());
    const by = listening({ redisPort: proxy.port, cacheDeadlineMs: 200 });
    await near(by, user);
    await proxy.set(faults);
    try {
      await rename(user, 'Grace');
      await second.invalidateUserContext(user);
      await sleep(BOUND_MS);
      expect((await bounded(by, user)).first_name).toBe('Grace');
      await until(
        'the trouble is noticed',
        async () => (await by.getHealth()).store.subscription === 'unhealthy',
        5_000,
      );
      await rename(user, 'Hedy');
      await second.invalidateUserContext(user);
      expect((await bounded(by, user)).first_name).toBe('Hedy');
    } finally {
      await proxy.reset();
    }
    await near(by, user);
  });
});

describe('the sampler', () => {
  const { context, store, engines } = suite(databases, valkey);

  it('counts answers that the source has contradicted for two seconds, and nothing else', async () => {
    const { db } = context();
    const { user } = await newPerson(context());
    const everything = { databaseUrl: db.url, rbacSamplePerMillion: 1_000_000 };
    const by = engines.start(store().options, everything);
    for (let round = 0; round < 20; round += 1) await by.getCachedUserContext(user);
    await until('some were sampled', () => by.getMetrics().rbac.sampled > 0);
    await sleep(2_500);
    expect(by.getMetrics().rbac).toMatchObject({ staleServed: 0, sampleErrors: 0 });
    // Somebody changes a row and tells nobody.
    await db.query('DELETE FROM user_roles WHERE user_id = $1', [user]);
    await until(
      'it is noticed',
      async () => {
        await by.getCachedUserContext(user);
        return by.getMetrics().rbac.staleServed > 0;
      },
      20_000,
    );
    expect(by.metricsText()).toMatch(/^bcos_authz_stale_served_total [1-9]/m);
  });

  it('looks at answers without a round trip as well', async () => {
    const { db } = context();
    const { user } = await newPerson(context());
    const options = { databaseUrl: db.url, rbacSamplePerMillion: 1_000_000, rbacBoundedMs: 30_000 };
    const by = engines.start(store().options, options);
    const bounded = () => by.getCachedUserContext(user, { consistency: 'bounded' });
    await until('it is answered without a round trip', async () => {
      await bounded();
      return (await tripsOf(by, bounded)) === 0;
    });
    await sleep(200);
    const within = { userId: user, tokenId: randomUUID(), consistency: 'bounded' } as const;
    for (const ask of [() => by.authorizeRequest(within), bounded]) {
      const { sampled } = by.getMetrics().rbac;
      for (let round = 0; round < 10; round += 1) await ask();
      await until('those were sampled', () => by.getMetrics().rbac.sampled >= sampled + 10);
    }
    const { bridge } = by.getMetrics();
    await db.query('DELETE FROM user_roles WHERE user_id = $1', [user]);
    await until('it is noticed', async () => {
      await bounded();
      return by.getMetrics().rbac.staleServed > 0;
    });
    expect(by.getMetrics().bridge.submitted).toBe(bridge.submitted);
  });

  it('is off unless it is asked for', async () => {
    const { engine } = context();
    const { user } = await newPerson(context());
    for (let round = 0; round < 50; round += 1) await engine.getCachedUserContext(user);
    expect(engine.getMetrics().rbac.sampled).toBe(0);
  });
});
