/**
 * Writes by anybody are seen: a plain statement in the application's database takes effect on every instance within a
 * second, whoever leads, dies, or is cut off meanwhile. Invariant of the spec: nobody here calls an invalidation.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions, UserContext } from '../index.js';
import type { Server } from './servers/index.mjs';
import { startValkey } from './servers/index.mjs';
import type { Database } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { migrate } from './support/migration.js';
import { Peer } from './support/processes.js';
import { createRbacTables } from './support/rbac-data.js';
import { postgres } from './support/rbac-suite.js';
import { RbacWorld } from './support/rbac-world.js';
import { optionsOf } from './support/stores.js';

/** What is promised. */
const WITHIN_MS = 1_000;

const databases = postgres();

interface World {
  readonly db: Database;
  readonly world: RbacWorld;
  readonly options: EngineOptions;
}

async function worldFor(store: EngineOptions): Promise<World> {
  const db = await databases().create();
  await createRbacTables(db);
  const options: EngineOptions = { ...store, databaseUrl: db.url, cacheTailEnabled: true };
  await migrate(db);
  return { db, world: new RbacWorld(db), options };
}

const tail = (engine: Engine) => engine.getMetrics().tail;
const following = (engines: readonly Engine[]) =>
  until(
    'one leads and the rest follow',
    () =>
      engines.filter((engine) => tail(engine).state === 'leading').length === 1 &&
      engines.filter((engine) => tail(engine).state === 'following').length === engines.length - 1,
  );

/** Waits until what was written so far has been voided, and the context is cached everywhere. */
async function settled(engines: readonly Engine[], user: string) {
  await sleep(300);
  for (const engine of engines) await engine.getCachedUserContext(user);
  for (const engine of engines) {
    expect(await statementsNamed(engine, 'rbac_parts', () => engine.getCachedUserContext(user))).toBe(0);
  }
}

async function statementsNamed(engine: Engine, name: string, action: () => Promise<unknown>) {
  const count = () => engine.getMetrics().source.statementsByName[name] ?? 0;
  const before = count();
  await action();
  return count() - before;
}

/** How long it took until every engine saw it. */
async function seenAfter(engines: readonly Engine[], user: string, seen: (context: UserContext) => boolean) {
  const from = performance.now();
  await Promise.all(
    engines.map((engine) =>
      until('the write is seen', async () => seen(await engine.getCachedUserContext(user)), 5_000),
    ),
  );
  return performance.now() - from;
}

describe('two instances on one store', () => {
  const engines = new Engines();
  let server: Server;
  let here: World;
  let both: Engine[];

  beforeAll(async () => {
    server = await startValkey();
    here = await worldFor({ ...optionsOf(server.env), cacheDeadlineMs: 500 });
    both = [engines.start(here.options), engines.start(here.options)];
    await Promise.all(both.map((engine) => engine.getHealth()));
    await following(both);
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await server?.stop();
  });

  const person = async () => {
    const { world } = here;
    const organization = await world.organization({ practice_uids: [1] });
    const role = await world.role({ permissions: ['analytics:read:organization'] });
    const user = await world.user({ roles: [role], organizations: [organization] });
    await settled(both, user);
    return { organization, role, user };
  };

  it.each([
    [
      'user_roles',
      'UPDATE user_roles SET is_active = false WHERE user_id = $1',
      'user',
      (c) => c.roles.length === 0,
    ],
    [
      'users',
      "UPDATE users SET first_name = 'Grace' WHERE user_id = $1",
      'user',
      (c) => c.first_name === 'Grace',
    ],
    [
      'user_organizations',
      'DELETE FROM user_organizations WHERE user_id = $1',
      'user',
      (c) => c.organizations.length === 0,
    ],
    ['roles', 'UPDATE roles SET is_active = false WHERE role_id = $1', 'role', (c) => c.roles.length === 0],
    [
      'role_permissions',
      'DELETE FROM role_permissions WHERE role_id = $1',
      'role',
      (c) => c.all_permissions.length === 0,
    ],
    [
      'permissions',
      'UPDATE permissions SET is_active = false WHERE permission_id IN (SELECT permission_id FROM role_permissions WHERE role_id = $1)',
      'role',
      (c) => c.all_permissions.length === 0,
    ],
    [
      'organizations',
      "UPDATE organizations SET practice_uids = '{1,2}' WHERE organization_id = $1",
      'organization',
      (c) => c.accessible_practices.length === 2,
    ],
  ] satisfies [string, string, 'user' | 'role' | 'organization', (context: UserContext) => boolean][])(
    'a plain write to %s is seen on both',
    async (_, sql, whose, seen) => {
      const ids = await person();
      await here.db.query(sql, [ids[whose]]);
      expect(await seenAfter(both, ids.user, seen)).toBeLessThan(WITHIN_MS);
    },
  );

  it('a table of users that is truncated', async () => {
    // In a database of its own: nobody is left.
    const there = await worldFor({ ...optionsOf(server.env), cacheDeadlineMs: 500, redisKeyPrefix: 'gone:' });
    const some = [engines.start(there.options), engines.start(there.options)];
    await Promise.all(some.map((engine) => engine.getHealth()));
    await following(some);
    const user = await there.world.user();
    await settled(some, user);
    for (const engine of some) expect(await engine.getUserById(user)).toMatchObject({ user_id: user });
    await there.db.query('TRUNCATE users CASCADE');
    const from = performance.now();
    for (const engine of some) {
      await until('there is no such user', async () => (await engine.getUserById(user)) === null);
      await until('nor a context', async () => 'error' in (await outcome(engine.getCachedUserContext(user))));
    }
    expect(performance.now() - from).toBeLessThan(WITHIN_MS);
    await Promise.all(some.map((engine) => engine.close()));
  });

  it('a row of the blacklist, and getUserById', async () => {
    const { user } = await person();
    const jti = randomUUID();
    for (const engine of both) {
      expect(await engine.isTokenBlacklisted(jti)).toBe(false);
      expect(await engine.getUserById(user)).toMatchObject({ first_name: 'Ada' });
    }
    await here.db.query(
      "INSERT INTO token_blacklist VALUES ($1, $2, 'access', now(), now() + interval '1 hour', 'logout')",
      [jti, user],
    );
    await here.db.query("UPDATE users SET first_name = 'Grace' WHERE user_id = $1", [user]);
    const from = performance.now();
    for (const engine of both) {
      await until('the token is revoked', () => engine.isTokenBlacklisted(jti));
      await until('the new name', async () => (await engine.getUserById(user))?.first_name === 'Grace');
    }
    expect(performance.now() - from).toBeLessThan(WITHIN_MS);
  });

  it('nobody waits for the open transaction of somebody else', async () => {
    const { user } = await person();
    const other = await person();
    await using open = await here.world.transaction();
    await open.query("UPDATE users SET first_name = 'Later' WHERE user_id = $1", [other.user]);
    await here.db.query("UPDATE users SET first_name = 'Now' WHERE user_id = $1", [user]);
    expect(await seenAfter(both, user, (context) => context.first_name === 'Now')).toBeLessThan(WITHIN_MS);
    await open.query('COMMIT');
    expect(await seenAfter(both, other.user, (context) => context.first_name === 'Later')).toBeLessThan(
      WITHIN_MS,
    );
  });

  it('a lost cursor voids what may be out of date', async () => {
    const { user } = await person();
    // Behind the back of the triggers: only somebody who starts anew can see it.
    await here.db.query(
      `BEGIN; ALTER TABLE users DISABLE TRIGGER bcos_cache_users_update; UPDATE users SET first_name = 'Unseen';
       ALTER TABLE users ENABLE ALWAYS TRIGGER bcos_cache_users_update; COMMIT`,
    );
    await sleep(WITHIN_MS);
    for (const engine of both) {
      expect(await engine.getCachedUserContext(user)).toMatchObject({ first_name: 'Ada' });
    }
    // A look that is under way may write the cursor once more.
    await until('it is seen', async () => {
      await server.command('DEL', 'tail:cursor', 'tail:lead');
      await sleep(WITHIN_MS);
      return (await both[0]?.getCachedUserContext(user))?.first_name === 'Unseen';
    });
    expect(await both[1]?.getCachedUserContext(user)).toMatchObject({ first_name: 'Unseen' });
    await following(both);
  });

  it('what was committed while the store was away is not answered when it is back', async () => {
    const { user, role } = await person();
    await server.pause();
    await here.db.query('UPDATE roles SET is_active = false WHERE role_id = $1', [role]);
    // Asked meanwhile: the store does not answer, so the source does.
    for (const engine of both) expect((await engine.getCachedUserContext(user)).roles).toEqual([]);
    await sleep(1_500);
    await server.resume();
    await until('the store is in service again', () => both.every((engine) => engine.isRedisAvailable()));
    for (const engine of both) expect((await engine.getCachedUserContext(user)).roles).toEqual([]);
    await following(both);
  });

  it('a transaction of 20,000 users is one look', async () => {
    const { user } = await person();
    const users = Array.from({ length: 20_000 }, () => randomUUID());
    await here.db.query(
      "INSERT INTO users (user_id, email, first_name, last_name) SELECT id, id::text, 'A', 'B' FROM unnest($1::uuid[]) id",
      [users],
    );
    await here.db.query("UPDATE users SET first_name = 'Many'");
    const ms = await seenAfter(both, user, (context) => context.first_name === 'Many');
    console.log(`20,000 users in one statement, seen by both after ${ms.toFixed(0)} ms`);
    expect(ms).toBeLessThan(5 * WITHIN_MS);
  });
});

describe('who leads', () => {
  it('a killed leader is replaced within the second', async () => {
    await using server = await startValkey();
    await using engines = new Engines();
    const here = await worldFor(optionsOf(server.env));
    await using leader = new Peer('tail-worker.mjs', { options: here.options });
    await leader.next('ready');
    const leads = async () => (await leader.ask({ kind: 'tail' })).state === 'leading';
    await until('the other process leads', leads);
    const engine = engines.start(here.options);
    const user = await here.world.user();
    await until('it follows', () => tail(engine).state === 'following');
    await settled([engine], user);
    await leader.kill();
    await here.db.query("UPDATE users SET first_name = 'Grace' WHERE user_id = $1", [user]);
    const ms = await seenAfter([engine], user, (context) => context.first_name === 'Grace');
    console.log(`seen ${ms.toFixed(0)} ms after the leader was killed`);
    expect(ms).toBeLessThan(WITHIN_MS);
    expect(tail(engine).state).toBe('leading');
  });

  it('polls where notifications cannot arrive', async () => {
    await using server = await startValkey();
    await using engines = new Engines();
    const here = await worldFor(optionsOf(server.env));
    const engine = engines.start(here.options, { databasePoolMax: 1 });
    const user = await here.world.user();
    await until('it leads', () => tail(engine).state === 'leading' && tail(engine).polls > 1);
    await settled([engine], user);
    await here.db.query("UPDATE users SET first_name = 'Grace' WHERE user_id = $1", [user]);
    expect(await seenAfter([engine], user, (context) => context.first_name === 'Grace')).toBeLessThan(
      WITHIN_MS,
    );
    expect(tail(engine).wakeups).toBe(0);
  });

  it('an embedded store is followed alone', async () => {
    await using engines = new Engines();
    const here = await worldFor({ cacheStore: 'embedded' });
    const engine = engines.start(here.options);
    const user = await here.world.user();
    await until('it looks', () => tail(engine).state === 'alone' && tail(engine).polls > 1);
    await settled([engine], user);
    await here.db.query("UPDATE users SET first_name = 'Grace' WHERE user_id = $1", [user]);
    expect(await seenAfter([engine], user, (context) => context.first_name === 'Grace')).toBeLessThan(
      WITHIN_MS,
    );
  });

  it('says that the outbox is missing, and goes on answering', async () => {
    await using server = await startValkey();
    await using engines = new Engines();
    const here = await worldFor(optionsOf(server.env));
    await migrate(here.db, '--remove');
    const engine = engines.start(here.options);
    const user = await here.world.user();
    expect(await engine.getCachedUserContext(user)).toMatchObject({ user_id: user });
    await until('an error is counted', () => tail(engine).errors > 0);
    expect(await engine.getHealth()).toMatchObject({ status: 'healthy', source: { status: 'healthy' } });
  });
});

describe('the sample', () => {
  it('counts contexts that are out of date, and only those', async () => {
    await using server = await startValkey();
    await using engines = new Engines();
    const here = await worldFor(optionsOf(server.env));
    const sampling = { rbacSamplePerMillion: 1_000_000 };
    const careless = engines.start(here.options, sampling, {
      cacheTailEnabled: false,
      redisKeyPrefix: 'careless:',
    });
    const careful = engines.start(here.options, sampling, { redisKeyPrefix: 'careful:' });
    const user = await here.world.user({ roles: [await here.world.role()] });
    const rbac = (engine: Engine) => engine.getMetrics().rbac;
    for (const engine of [careless, careful]) {
      await engine.getCachedUserContext(user);
      await engine.getCachedUserContext(user);
      await until('compared', () => rbac(engine).sampled > 0);
      expect(rbac(engine).staleServed).toBe(0);
    }
    await until('it leads', () => tail(careful).state === 'leading');
    await here.db.query('DELETE FROM user_roles WHERE user_id = $1', [user]);
    for (const engine of [careless, careful]) await engine.getCachedUserContext(user);
    await until('the careless one is caught', () => rbac(careless).staleServed > 0);
    expect(careless.metricsText()).toMatch(/bcos_authz_stale_served_total [1-9]/);
    await sleep(500);
    expect(rbac(careful).staleServed).toBe(0);
  });
});
