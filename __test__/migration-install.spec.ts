/**
 * Installing, repeating and removing the optional migration: as whom, with which rights. What the triggers write is
 * `migration.spec.ts`, over which tables `migration-tables.spec.ts`.
 * Invariant: whatever fails changes nothing, and writes of the application never fail because of us.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, Databases } from './support/database.js';
import { installSql, type Mapping, pruneSql, removeSql, Tail, takeNotes } from './support/migration.js';
import {
  idOf,
  notesOf,
  ROWS,
  Sessions,
  token,
  tracesIn,
  withIds,
  withNames,
} from './support/migration-rows.js';

const TABLES = 8;
const EVENTS = 4;
/** Users are noted before they are truncated as well. */
const TRUNCATING = 1;

let databases: Databases;
beforeAll(async () => {
  databases = await Databases.start();
});
afterAll(() => databases[Symbol.asyncDispose]());

let sessions: Sessions;
let database: Database;
let client: pg.Client;
beforeEach(async () => {
  sessions = new Sessions();
  database = await databases.create();
  client = await sessions.open(database.url);
});
afterEach(() => sessions[Symbol.asyncDispose]());

const traces = (): Promise<string[]> => tracesIn(client);
const triggers = async (): Promise<string[]> =>
  (await traces()).filter((trace) => trace.startsWith('trigger'));

const deactivate = 'UPDATE users SET is_active = false WHERE user_id = :u1';

describe('install and remove', () => {
  it('twice is as once', async () => {
    await client.query(installSql());
    const once = await traces();
    await client.query(installSql());
    expect(await traces()).toEqual(once);
    expect(await triggers()).toHaveLength(TABLES * EVENTS + TRUNCATING);
    await client.query(ROWS);
    expect(await notesOf(client, deactivate)).toEqual(['user u1']);
  });

  it('again keeps the notes and renews the functions', async () => {
    await client.query(installSql());
    await client.query(withIds(token('j1')));
    await client.query(`
      CREATE OR REPLACE FUNCTION bcos_cache.users_changed() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'an old function'; END $$;
      ALTER TABLE users DISABLE TRIGGER bcos_cache_users_update`);
    await client.query(installSql());
    expect(await takeNotes(client)).toEqual(['token j1']);
    await client.query(ROWS.replace("('j1', ", "('j3', "));
    expect(await notesOf(client, deactivate)).toEqual(['user u1']);
  });

  it('removal leaves nothing, twice and without an installation too', async () => {
    await client.query(removeSql());
    await client.query(installSql());
    await client.query(ROWS);
    await client.query(removeSql());
    expect(await traces()).toEqual([]);
    await client.query(removeSql());
    await client.query(withIds(deactivate));
    expect(await traces()).toEqual([]);
  });

  it('removal spares what somebody else put into the schema, and then changes nothing', async () => {
    await client.query(installSql());
    await client.query('CREATE VIEW bcos_cache.mine AS SELECT 1');
    const before = await traces();
    await expect(client.query(removeSql())).rejects.toMatchObject({ code: '2BP01' });
    await client.query('ROLLBACK');
    expect(await traces()).toEqual(before);
  });

  it.each<[string, Mapping]>([
    ['table', { users: { table: 'people' } }],
    ['schema', { roles: { schema: 'elsewhere' } }],
    ['column', { users: { columns: { provider_uid: 'provider' } } }],
    ['column of a join', { role_permissions: { columns: { role_id: 'role' } } }],
  ])('a %s that does not exist fails at installation, not at the next write', async (_, mapping) => {
    await expect(client.query(installSql(mapping))).rejects.toThrow(/does not exist/);
    await client.query('ROLLBACK');
    expect(await traces()).toEqual([]);
  });

  it('waits five seconds for a table in use, then changes nothing', async () => {
    const free = await database.lock('user_roles');
    const start = performance.now();
    await expect(client.query(installSql())).rejects.toMatchObject({ code: '55P03' });
    const waited = performance.now() - start;
    await client.query('ROLLBACK');
    await free();
    expect(await traces()).toEqual([]);
    expect(waited).toBeGreaterThan(4_900);
    expect(waited).toBeLessThan(15_000);
  });

  it('refuses a schema that somebody else has prepared', async () => {
    await client.query('CREATE ROLE stranger; CREATE SCHEMA bcos_cache AUTHORIZATION stranger');
    await expect(client.query(installSql())).rejects.toThrow(
      'schema bcos_cache belongs to stranger, not to postgres',
    );
    await client.query('ROLLBACK');
    expect(await triggers()).toEqual([]);
  });
});

describe('rights', () => {
  it('an owner installs, an application without rights writes, a cache with the rights of the header reads', async () => {
    await client.query(`
      CREATE ROLE migrator LOGIN; CREATE ROLE application LOGIN; CREATE ROLE cache_role LOGIN;
      GRANT CREATE ON DATABASE "${new URL(database.url).pathname.slice(1)}" TO migrator;
      DO $$ DECLARE t record; BEGIN FOR t IN SELECT tablename AS name FROM pg_tables WHERE schemaname = 'public' LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO migrator', t.name);
      END LOOP; END $$;
      GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO application;
      GRANT SELECT ON ALL TABLES IN SCHEMA public TO cache_role; GRANT CREATE ON SCHEMA public TO cache_role`);
    const migrator = await sessions.open(database.url, 'migrator');
    const sql = installSql();
    await migrator.query(sql);
    await migrator.query(sql);

    const application = await sessions.open(database.url, 'application');
    await application.query(ROWS);
    expect(new Set((await takeNotes(client)).map(withNames))).toEqual(
      new Set(
        [
          'role r1',
          'role r2',
          'role r3',
          'tree',
          'user u1',
          'user u2',
          'user u3',
          'token j1',
          'token j2',
        ].concat('permission p1', 'permission p2', 'permission p3'),
      ),
    );
    await application.query(withIds(deactivate));
    await application.query(
      withIds('UPDATE permissions SET is_active = false; DELETE FROM user_roles; TRUNCATE token_blacklist'),
    );
    expect(await takeNotes(client)).toHaveLength(1 + 5 + 2 + 1);

    const forbidden = { code: '42501' };
    await expect(application.query('SELECT FROM bcos_cache.outbox')).rejects.toMatchObject(forbidden);
    await expect(
      application.query(`INSERT INTO bcos_cache.outbox (kind, ref) VALUES ('all', '')`),
    ).rejects.toMatchObject(forbidden);
    const cache = await sessions.open(database.url, 'cache_role');
    const tail = new Tail(cache);
    await expect(tail.read()).rejects.toMatchObject(forbidden);
    const grants = [...sql.matchAll(/^-- +(GRANT .*;)$/gm)].map(([, grant]) => grant);
    expect(grants).toHaveLength(2);
    await migrator.query(grants.join('\n'));
    await tail.read();
    await application.query(
      withIds(
        'UPDATE users SET is_active = true WHERE user_id = :u1; UPDATE permissions SET is_active = true WHERE permission_id = :p1',
      ),
    );
    expect(await tail.read()).toEqual([`role ${idOf('r1')}`, `role ${idOf('r2')}`, `user ${idOf('u1')}`]);
    await cache.query(pruneSql());
    // A table of its own must not get functions that run with the installer's rights.
    await cache.query('CREATE TABLE trap (user_id text)');
    await expect(
      cache.query(`CREATE TRIGGER t AFTER TRUNCATE ON trap EXECUTE FUNCTION bcos_cache.truncated()`),
    ).rejects.toMatchObject(forbidden);
    await cache.query('LISTEN bcos_cache');
    await expect(
      cache.query(`INSERT INTO bcos_cache.outbox (kind, ref) VALUES ('all', '')`),
    ).rejects.toMatchObject(forbidden);

    await migrator.query(removeSql());
    expect(await traces()).toEqual([]);
  });
});
