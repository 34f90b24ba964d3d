/**
 * The optional migration over an application's own tables: other names, partitions, inheritance. Not about rights or
 * repeated installation (`migration-install.spec.ts`). Invariant: every table a row can be written to is watched.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, Databases } from './support/database.js';
import { installSql, type Mapping, removeSql, Tail } from './support/migration.js';
import { idOf, notesOf, ROWS, Sessions, tracesIn, withIds } from './support/migration-rows.js';

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

describe('the names of an application', () => {
  /** Capitals, keywords, and every name the functions use themselves. */
  const MAPPING: Mapping = {
    users: {
      schema: 'Auth',
      table: 'User',
      columns: { user_id: 'id', email: 'found', is_active: 'TG_OP', provider_uid: 'content' },
    },
    user_roles: {
      schema: 'Auth',
      table: 'order',
      columns: { user_id: 'ref', role_id: 'select', is_active: 'side' },
    },
    roles: { schema: 'Auth', table: 'changed', columns: { role_id: 'id', name: 'new_rows', is_active: 'r' } },
    role_permissions: {
      schema: 'Auth',
      table: 'old_rows',
      columns: { role_id: 'id', permission_id: 'kind' },
    },
    permissions: {
      schema: 'Auth',
      table: 'table',
      columns: { permission_id: 'Permission_Id', scope: 'image' },
    },
    token_blacklist: { schema: 'Auth', table: 'Bl', columns: { jti: 'found' } },
  };

  async function rename(): Promise<void> {
    await client.query('CREATE SCHEMA "Auth"');
    for (const [table, { table: name, columns }] of Object.entries(MAPPING)) {
      for (const [column, called] of Object.entries(columns ?? {}))
        await client.query(`ALTER TABLE ${table} RENAME ${column} TO "${called}"`);
      await client.query(
        `ALTER TABLE ${table} SET SCHEMA "Auth"; ALTER TABLE "Auth".${table} RENAME TO "${name}"`,
      );
    }
  }

  it('another schema, capitals, keywords, and names the functions use themselves', async () => {
    await client.query(ROWS);
    await rename();
    await client.query(installSql(MAPPING));
    const cases: [string, string[]][] = [
      [`UPDATE "Auth"."User" SET "TG_OP" = false WHERE id = :u1`, ['user u1']],
      [`UPDATE "Auth"."User" SET password_hash = 'y'`, []],
      [`UPDATE "Auth"."order" SET side = false`, ['user u1', 'user u2']],
      [`INSERT INTO "Auth"."order" (user_role_id, ref, "select") VALUES (:a9, :u3, :r1)`, ['user u3']],
      [`DELETE FROM "Auth"."order" WHERE ref = :u1`, ['user u1']],
      [`UPDATE "Auth".changed SET r = false WHERE id = :r3`, ['role r3']],
      [`DELETE FROM "Auth".old_rows WHERE kind = :p2`, ['role r2']],
      [
        `UPDATE "Auth"."table" SET image = 'all' WHERE "Permission_Id" = :p1`,
        ['permission p1', 'role r1', 'role r2'],
      ],
      [`UPDATE "Auth"."Bl" SET found = 'x' WHERE found = 'j1'`, ['token j1', 'token x']],
      [`TRUNCATE "Auth"."order"`, ['all']],
      [`TRUNCATE "Auth"."User" CASCADE`, ['all', 'all', 'all', 'user u1', 'user u2', 'user u3']],
    ];
    for (const [sql, notes] of cases) expect(await notesOf(client, sql), sql).toEqual(notes);
    const tail = new Tail(client, MAPPING);
    await tail.read();
    await client.query(`UPDATE "Auth"."table" SET image = 'all' WHERE name = 'p2'`);
    expect(await tail.read()).toEqual([`role ${idOf('r2')}`]);
    await client.query(removeSql());
    expect(await traces()).toEqual([]);
  });

  it('after another mapping the tables of the old one are left alone', async () => {
    await client.query(installSql());
    await client.query(
      `CREATE TABLE accounts (LIKE users INCLUDING ALL); ALTER TABLE accounts RENAME user_id TO id`,
    );
    await client.query(installSql({ users: { table: 'accounts', columns: { user_id: 'id' } } }));
    expect(await triggers()).toHaveLength(TABLES * EVENTS + TRUNCATING);
    await client.query(ROWS);
    expect(await notesOf(client, deactivate)).toEqual([]);
    const moved = `INSERT INTO accounts (id, email, first_name, last_name) VALUES (:u1, '1', 'a', 'b')`;
    expect(await notesOf(client, moved)).toEqual(['user u1']);
  });

  it('two of our tables in one of the application: both are watched', async () => {
    await client.query(
      `ALTER TABLE users ADD user_organization_id uuid, ADD organization_id uuid, ADD joined_at timestamptz`,
    );
    await client.query(installSql({ user_organizations: { table: 'users' } }));
    await client.query(ROWS);
    expect(await notesOf(client, `UPDATE users SET email = 'new' WHERE user_id = :u1`)).toEqual(['user u1']);
    expect(await notesOf(client, `UPDATE users SET joined_at = now() WHERE user_id = :u1`)).toEqual([
      'user u1',
    ]);
    expect(await notesOf(client, deactivate)).toEqual(['user u1', 'user u1']);
  });
});

describe('a table that is several', () => {
  const COLUMNS = `user_role_id uuid, user_id uuid, role_id uuid, organization_id uuid, granted_by uuid,
    granted_at timestamptz, expires_at timestamptz, is_active boolean DEFAULT true`;

  it('partitions: through the parent, directly, from one to another, and those of a partition', async () => {
    await client.query(`
      DROP TABLE user_roles; CREATE SCHEMA parts;
      CREATE TABLE user_roles (${COLUMNS}) PARTITION BY LIST (is_active);
      CREATE TABLE parts."On" PARTITION OF user_roles FOR VALUES IN (true) PARTITION BY HASH (user_id);
      CREATE TABLE parts.on_0 PARTITION OF parts."On" FOR VALUES WITH (MODULUS 2, REMAINDER 0);
      CREATE TABLE parts.on_1 PARTITION OF parts."On" FOR VALUES WITH (MODULUS 2, REMAINDER 1);
      -- Its columns are in another order.
      CREATE TABLE parts.off (is_active boolean, role_id uuid, user_id uuid, user_role_id uuid, organization_id uuid,
        granted_by uuid, granted_at timestamptz, expires_at timestamptz);
      ALTER TABLE user_roles ATTACH PARTITION parts.off DEFAULT;
      ALTER TABLE user_roles ADD FOREIGN KEY (user_id) REFERENCES users ON DELETE CASCADE`);
    await client.query(installSql());
    expect(await triggers()).toHaveLength((TABLES + 4) * EVENTS + TRUNCATING);
    await client.query(ROWS);
    const cases: [string, string[]][] = [
      ['UPDATE user_roles SET expires_at = now()', ['user u1', 'user u2']],
      ['UPDATE user_roles SET is_active = false', ['user u1', 'user u2']],
      ['UPDATE user_roles SET is_active = is_active', []],
      ['UPDATE user_roles SET user_id = :u3 WHERE user_id = :u1', ['user u1', 'user u3']],
      ['UPDATE parts."On" SET expires_at = now() WHERE user_id = :u1', ['user u1']],
      [
        'INSERT INTO parts.off (user_role_id, user_id, role_id, is_active) VALUES (:a9, :u3, :r1, false)',
        ['user u3'],
      ],
      [
        'UPDATE user_roles SET is_active = false; UPDATE parts.off SET expires_at = now() WHERE user_id = :u1',
        ['user u1', 'user u1', 'user u2'],
      ],
      ['DELETE FROM user_roles', ['user u1', 'user u2']],
      [
        'DELETE FROM user_organizations; DELETE FROM users WHERE user_id = :u2',
        ['user u1', 'user u2', 'user u2', 'user u2'],
      ],
      ['TRUNCATE parts.off', ['all']],
    ];
    for (const [sql, notes] of cases) expect(await notesOf(client, sql), sql).toEqual(notes);
    expect(new Set(await notesOf(client, 'TRUNCATE user_roles'))).toEqual(new Set(['all']));

    const later = 'CREATE TABLE parts.later (LIKE user_roles INCLUDING ALL, CHECK (is_active IS NULL))';
    await client.query(`ALTER TABLE user_roles DETACH PARTITION parts.off; ${later}`);
    await client.query('ALTER TABLE user_roles ATTACH PARTITION parts.later FOR VALUES IN (NULL)');
    await client.query(installSql());
    const named = (await triggers()).filter((trigger) => trigger.includes('parts.'));
    expect(named.filter((trigger) => trigger.includes('parts.later'))).toHaveLength(EVENTS);
    expect(named.filter((trigger) => trigger.includes('parts.off'))).toEqual([]);
  });

  it('users in partitions: those that are truncated, once', async () => {
    await client.query(ROWS);
    await client.query(`
      ALTER TABLE users RENAME TO people; CREATE TABLE users (LIKE people INCLUDING DEFAULTS) PARTITION BY LIST (email);
      CREATE TABLE first PARTITION OF users FOR VALUES IN ('u1'); CREATE TABLE others PARTITION OF users DEFAULT;
      INSERT INTO users SELECT * FROM people`);
    await client.query(installSql());
    expect(await notesOf(client, 'TRUNCATE first')).toEqual(['all', 'user u1']);
    const users = (notes: string[]) => notes.filter((note) => note !== 'all');
    expect(users(await notesOf(client, 'TRUNCATE users'))).toEqual(['user u1', 'user u2', 'user u3']);
    expect(users(await notesOf(client, 'TRUNCATE ONLY others'))).toEqual(['user u2', 'user u3']);
  });

  it('inheritance: through the parent and directly', async () => {
    await client.query('CREATE TABLE extra_roles (note text) INHERITS (user_roles)');
    await client.query(installSql());
    await client.query(ROWS);
    await client.query(
      withIds('INSERT INTO extra_roles (user_role_id, user_id, role_id) VALUES (:a7, :u3, :r1)'),
    );
    const cases: [string, string[]][] = [
      ['UPDATE user_roles SET is_active = false', ['user u1', 'user u2', 'user u3']],
      ['UPDATE ONLY user_roles SET is_active = false', ['user u1', 'user u2']],
      ['UPDATE extra_roles SET is_active = false', ['user u3']],
      [`UPDATE extra_roles SET note = 'x'`, []],
      ['DELETE FROM user_roles WHERE user_id = :u3', ['user u3']],
    ];
    for (const [sql, notes] of cases) expect(await notesOf(client, sql), sql).toEqual(notes);
  });

  it('a mapped view is an error', async () => {
    await client.query('CREATE VIEW people AS SELECT * FROM users');
    await expect(client.query(installSql({ users: { table: 'people' } }))).rejects.toThrow(/view/);
    await client.query('ROLLBACK');
    expect(await traces()).toEqual([]);
  });
});
