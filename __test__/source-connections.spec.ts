/**
 * How statements use connections: as many round trips as are promised, counted on the wire, and what becomes of a statement
 * whose connection the server has ended. Not an outage: the database is there all the time, or again.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { statementsNamed } from './support/rbac-behaviour.js';
import { createRbacTables } from './support/rbac-data.js';
import { RbacWorld } from './support/rbac-world.js';
import { StatementCounter } from './support/statement-counter.js';

/** Messages of one statement that is known to its connection: Bind, Execute, Close, Sync. */
const SENT = 'BECS';
/** Before its first use there: Parse, Describe, Sync. */
const PREPARED = 'PDS';
/** Asking a connection whether it answers. The pool does so when it is given back, and nobody waits for that. */
const ASKED = 'S';
/** A simple query, such as BEGIN. */
const SIMPLE = 'Q';

let databases: Databases;
let database: Database;
let world: RbacWorld;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  await createRbacTables(database);
  world = new RbacWorld(database);
});
afterAll(() => databases?.[Symbol.asyncDispose]());

let counter: StatementCounter;
let engines: Engines;
beforeEach(async () => {
  counter = await StatementCounter.start(databases.server.port);
  engines = new Engines();
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
  await counter[Symbol.asyncDispose]();
});

const start = (options: EngineOptions = {}): Engine =>
  engines.start({ cacheStore: 'embedded', databaseUrl: counter.through(database.url) }, options);

const revocation = () => {
  const row = { jti: randomUUID(), userId: randomUUID(), tokenType: 'access', reason: 'logout' };
  return { ...row, expiresAt: Date.now() + 60_000 };
};

describe('round trips', () => {
  /** What the connection sent for an action, until it was given back. */
  async function sent(action: () => Promise<unknown>): Promise<string[]> {
    counter.flights.length = 0;
    await action();
    await until('the connection was given back', () => counter.flights.at(-1) === ASKED);
    return [...counter.flights];
  }

  it('a cold context whose roles are known: one, however long the connection was idle', async () => {
    const engine = start({ databasePoolMax: 1 });
    const role = await world.role({ permissions: ['analytics:read:own'] });
    const organization = await world.organization({ practice_uids: [1] });
    const person = () => world.user({ roles: [role], organizations: [organization] });
    const users = [await person(), await person(), await person()];
    const cold = (at: number) => () => engine.getCachedUserContext(String(users[at]));
    const first = await sent(cold(0));
    // Its first use on this connection takes one more; the second statement of the first context, for the roles, does not.
    expect(first.slice(0, 3)).toEqual([PREPARED, SENT, ASKED]);
    expect(first.filter((flight) => flight === PREPARED)).toHaveLength(1);
    expect(
      await statementsNamed(engine, async () => expect(await sent(cold(1))).toEqual([SENT, ASKED])),
    ).toEqual({
      rbac_parts: 1,
    });
    await sleep(6_000);
    expect(await sent(cold(2))).toEqual([SENT, ASKED]);
    await engine.invalidateRolePermissions(role);
    expect(await sent(() => engine.getCachedRolePermissions(role))).toEqual([SENT, ASKED]);
  });

  it.each<[string, (engine: Engine, user: string) => Promise<unknown>]>([
    ['a whole context', (engine, user) => engine.getCachedUserContext(user, { consistency: 'fresh' })],
    ['a token', (engine) => engine.isTokenBlacklisted(randomUUID())],
    ['a user', (engine) => engine.getUserById(randomUUID())],
  ])('%s: one, and two at its first use', async (_, read) => {
    const engine = start({ databasePoolMax: 1 });
    const user = await world.user();
    expect(await sent(() => read(engine, user))).toEqual([PREPARED, SENT, ASKED]);
    expect(await sent(() => read(engine, user))).toEqual([SENT, ASKED]);
  });

  it('what writes goes over a connection that has just answered', async () => {
    const engine = start({ databasePoolMax: 1 });
    const write = () => engine.blacklistToken(revocation());
    expect(await sent(write)).toEqual([PREPARED, SENT, ASKED]);
    expect(await sent(write)).toEqual([ASKED, SENT, ASKED]);
    expect(await sent(write)).toEqual([ASKED, SENT, ASKED]);
  });

  it('for a transaction pooler: four, each time', async () => {
    const engine = start({ databasePoolMax: 1, databasePgbouncer: true });
    const read = () => engine.isTokenBlacklisted(randomUUID());
    for (let round = 0; round < 2; round += 1) {
      expect(await sent(read)).toEqual([SIMPLE, PREPARED, SENT, SIMPLE, ASKED]);
    }
  });
});

describe('a connection that the server has ended', () => {
  const CONNECTIONS = 4;
  let engine: Engine;
  beforeEach(async () => {
    engine = start({ databasePoolMax: CONNECTIONS });
  });

  /** All that the engine has are idle, and then gone. */
  async function terminate(): Promise<void> {
    const free = await database.lock('token_blacklist');
    const all = Array.from({ length: CONNECTIONS }, () => engine.isTokenBlacklisted(randomUUID()));
    const mine = `FROM pg_stat_activity WHERE application_name = 'bcos-cache' AND datname = current_database()`;
    const count = async () => (await database.query(`SELECT ${mine}`)).length;
    await until('every connection is there', async () => (await count()) === CONNECTIONS);
    await free();
    await Promise.all(all);
    await until('all are idle', async () => {
      const idle = await database.query(`SELECT ${mine} AND state = 'idle'`);
      return idle.length === CONNECTIONS;
    });
    await database.query(`SELECT pg_terminate_backend(pid) ${mine}`);
    await until('none is left', async () => (await count()) === 0);
  }

  it('is not noticed by what reads', async () => {
    const user = await world.user();
    for (let round = 0; round < 3; round += 1) {
      await terminate();
      const reads = Array.from({ length: 3 * CONNECTIONS }, () => engine.isTokenBlacklisted(randomUUID()));
      expect(await Promise.all(reads)).toEqual(reads.map(() => false));
      await terminate();
      expect(await engine.getCachedUserContext(user, { consistency: 'fresh' })).toMatchObject({
        user_id: user,
      });
      expect((await engine.getHealth()).source.status).toBe('healthy');
    }
  });

  it('is not used for what writes', async () => {
    await terminate();
    const cost = await statementsNamed(engine, async () => {
      const writes = Array.from({ length: CONNECTIONS }, () => engine.blacklistToken(revocation()));
      for (const done of await Promise.all(writes)) expect(done).toMatchObject({ inserted: true });
    });
    expect(cost).toEqual({ blacklist_token: CONNECTIONS });
  });

  it('while it reads: it is asked once more over another one, and not a third time', async () => {
    const jti = randomUUID();
    await database.revoke(jti);
    const [once, twice] = [randomUUID(), randomUUID()];
    counter.losing = 1;
    const cost = await statementsNamed(engine, async () => {
      expect(await engine.isTokenBlacklisted(jti)).toBe(true);
    });
    expect([cost, counter.losing]).toEqual([{ token_is_blacklisted: 2 }, 0]);
    expect(await engine.isTokenBlacklisted(once)).toBe(false);
    counter.losing = 3;
    const failed = await statementsNamed(engine, async () => {
      const ended = await outcome(engine.isTokenBlacklisted(twice));
      expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
    });
    expect([failed, counter.losing]).toEqual([{ token_is_blacklisted: 2 }, 1]);
  });

  it('while it writes: an error that says so, and nothing is written twice', async () => {
    const row = revocation();
    counter.losing = 1;
    const cost = await statementsNamed(engine, async () => {
      const ended = await outcome(engine.blacklistToken(row));
      expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
    });
    expect(cost).toEqual({ blacklist_token: 1 });
    // It was written, which nobody could know here.
    expect(await database.query('SELECT FROM token_blacklist WHERE jti = $1', [row.jti])).toHaveLength(1);
    expect(await engine.isTokenBlacklisted(row.jti)).toBe(true);
    await until('the source is asked again', async () => {
      const ended = await outcome(engine.blacklistToken(row));
      return 'value' in ended && !ended.value.inserted;
    });
  });
});
