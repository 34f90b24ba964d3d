/**
 * Issue 3, "writes by anybody are seen": what the triggers of the optional migration write for which statement. Not
 * about how it is installed (`migration-install.spec.ts`) or read (`migration-tail.spec.ts`).
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, Databases } from './support/database.js';
import { until } from './support/engines.js';
import { installSql, takeNotes } from './support/migration.js';
import { CASES } from './support/migration-cases.js';
import { idOf, notesOf, ROWS, Sessions, token, withIds, withNames } from './support/migration-rows.js';
import { rounds } from './support/rounds.js';

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  await database.query('ALTER TABLE users ADD last_login timestamptz');
  await database.query(ROWS);
  await database.query(installSql());
});
afterAll(() => databases[Symbol.asyncDispose]());

let sessions: Sessions;
let client: pg.Client;
beforeEach(async () => {
  sessions = new Sessions();
  client = await sessions.open(database.url);
});
afterEach(() => sessions[Symbol.asyncDispose]());

describe('what a statement writes', () => {
  it.each(CASES)('%s', async (sql, notes) => {
    expect(await notesOf(client, sql)).toEqual(notes);
  });

  it('a table the application keeps without ids: rows that belong to nobody are left out', async () => {
    const sql = `ALTER TABLE user_roles ALTER user_id DROP NOT NULL; UPDATE user_roles SET user_id = NULL WHERE user_id = :u1;
      INSERT INTO user_roles (user_role_id, role_id) VALUES (:a9, :r1); DELETE FROM user_roles WHERE user_id IS NULL`;
    expect(await notesOf(client, sql)).toEqual(['user u1']);
  });

  it('a type that cannot be compared', async () => {
    const sql = `ALTER TABLE organizations ALTER name TYPE json USING to_json(name); UPDATE organizations SET slug = slug`;
    expect(await notesOf(client, sql)).toEqual([]);
    expect(await notesOf(client, `${sql}; UPDATE organizations SET name = '"new"'`)).toEqual(['tree']);
  });

  it('a permission that is in no row of role_permissions by foreign key, but without one', async () => {
    const sql = `ALTER TABLE role_permissions DROP CONSTRAINT role_permissions_permission_id_fkey;`;
    const gone = `${sql} DELETE FROM permissions WHERE permission_id = :p1`;
    expect(await notesOf(client, gone)).toEqual(['permission p1', 'role r1', 'role r2']);
    const back = `${gone}; INSERT INTO permissions (permission_id, name, resource, action, scope) VALUES (:p1, 'p1', 'x', 'read', 'all')`;
    expect(await notesOf(client, back)).toHaveLength(6);
    const renamed = `${sql} UPDATE permissions SET permission_id = :p9 WHERE permission_id = :p2`;
    expect(await notesOf(client, renamed)).toEqual(['permission p2', 'permission p9', 'role r2']);
  });

  it('cascades write what the other tables would', async () => {
    const cascading = (table: string, column: string, parent: string) =>
      `ALTER TABLE ${table} DROP CONSTRAINT ${table}_${column}_fkey;
       ALTER TABLE ${table} ADD CONSTRAINT ${table}_${column}_fkey FOREIGN KEY (${column}) REFERENCES ${parent} ON DELETE CASCADE ON UPDATE CASCADE;`;
    const users =
      cascading('user_roles', 'user_id', 'users') + cascading('user_organizations', 'user_id', 'users');
    const roles =
      cascading('user_roles', 'role_id', 'roles') + cascading('role_permissions', 'role_id', 'roles');
    const permissions = cascading('role_permissions', 'permission_id', 'permissions');
    const notes = (sql: string) => notesOf(client, sql);

    const all = ['user u1', 'user u2'].flatMap((note) => [note, note, note]);
    // One row per id and table, not one per deleted parent.
    expect(await notes(`${users} DELETE FROM users`)).toEqual([...all, 'user u3']);
    const renamed = ['user u1', 'user u1', 'user u1', 'user u9', 'user u9', 'user u9'];
    expect(await notes(`${users} UPDATE users SET user_id = :u9 WHERE user_id = :u1`)).toEqual(renamed);
    expect(await notes(`${roles} DELETE FROM roles WHERE role_id = :r1`)).toEqual([
      'role r1',
      'role r1',
      'user u1',
      'user u2',
    ]);
    const deleted = await notes(`${permissions} DELETE FROM permissions WHERE permission_id = :p1`);
    expect(new Set(deleted)).toEqual(new Set(['permission p1', 'role r1', 'role r2']));
  });
});

describe('transactions', () => {
  it('what is rolled back writes nothing, also with a savepoint', async () => {
    await takeNotes(client);
    await client.query(withIds(`BEGIN; UPDATE users SET is_active = false; ${token('j9')}; ROLLBACK`));
    await client.query(
      withIds(
        `BEGIN; SAVEPOINT s; UPDATE users SET is_active = false WHERE user_id = :u1; ROLLBACK TO s;
         SAVEPOINT t; UPDATE users SET is_active = true WHERE user_id = :u2; RELEASE t; COMMIT`,
      ),
    );
    await expect(client.query(withIds(`${token('j9')}; ${token('j9')}`))).rejects.toMatchObject({
      code: '23505',
    });
    expect(await takeNotes(client)).toEqual([]);
    await client.query(
      withIds(`BEGIN; UPDATE users SET is_active = false WHERE user_id = :u1; SAVEPOINT s;
      UPDATE users SET is_active = false WHERE user_id = :u2; ROLLBACK TO s; COMMIT`),
    );
    expect(await takeNotes(client)).toEqual([`user ${idOf('u1')}`]);
    await client.query('UPDATE users SET is_active = true');
  });

  it('the version of what changed grows with a commit, and with nothing else', async () => {
    const versions = async (): Promise<Record<string, number>> => {
      const { rows } = await client.query<{ about: string; version: string }>(
        `SELECT kind || ' ' || ref AS about, version FROM bcos_cache.versions`,
      );
      return Object.fromEntries(rows.map(({ about, version }) => [withNames(about).trim(), Number(version)]));
    };
    await client.query(withIds('DELETE FROM bcos_cache.outbox; UPDATE users SET is_active = NOT is_active'));
    const before = await versions();
    expect(Object.keys(before).sort()).toEqual(['user u1', 'user u2', 'user u3']);
    await client.query(withIds('BEGIN; UPDATE users SET is_active = NULL WHERE user_id = :u1; ROLLBACK'));
    await client.query(withIds('UPDATE users SET last_login = now() WHERE user_id = :u1'));
    expect(await versions()).toEqual(before);
    await client.query(withIds('UPDATE users SET is_active = true WHERE user_id = :u1'));
    await client.query(withIds('DELETE FROM role_permissions WHERE role_permission_id = :g1'));
    const { 'user u1': one = 0, 'role r1': role = 0, ...others } = await versions();
    expect(one).toBeGreaterThan(before['user u1'] ?? Number.NaN);
    expect(role).toBeGreaterThan(one);
    expect(others).toEqual({ 'user u2': before['user u2'], 'user u3': before['user u3'] });
    await client.query(
      withIds('UPDATE users SET is_active = true; INSERT INTO role_permissions VALUES (:g1, :r1, :p1)'),
    );
    await takeNotes(client);
  });

  it('one notification per transaction, none for nothing', async () => {
    const listener = await sessions.open(database.url);
    const heard: string[] = [];
    listener.on('notification', ({ channel, payload }) => heard.push(`${channel}:${payload}`));
    await listener.query('LISTEN bcos_cache; LISTEN control');
    /** In order with the others, so that what was heard before it is complete. */
    const heardBy = async (sql: string): Promise<string[]> => {
      await client.query(withIds(sql));
      await client.query('NOTIFY control');
      await until('the control notification', () => heard.at(-1) === 'control:');
      return heard.splice(0).slice(0, -1);
    };
    const touch = 'UPDATE users SET is_active = NOT is_active;';
    const many = `${touch} UPDATE roles SET name = name || 'x'; SAVEPOINT s; ${touch} RELEASE s; SAVEPOINT t; ${touch} ROLLBACK TO t; ${touch}`;
    expect(await heardBy(touch)).toEqual(['bcos_cache:']);
    expect(await heardBy(`BEGIN; ${many} COMMIT`)).toEqual(['bcos_cache:']);
    expect(await heardBy(`BEGIN; ${many} ROLLBACK`)).toEqual([]);
    expect(await heardBy('UPDATE users SET last_login = now()')).toEqual([]);
    expect(await heardBy('BEGIN; TRUNCATE token_blacklist; COMMIT')).toEqual(['bcos_cache:']);
    await client.query(withIds(`UPDATE users SET is_active = true; ${token('j1')}; ${token('j2')}`));
  });

  it('the notes make nobody wait for anybody', async () => {
    const other = await sessions.open(database.url);
    const same = [
      'INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (gen_random_uuid(), :u1, :r1)',
      'INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (gen_random_uuid(), :u2, :r1)',
      'INSERT INTO role_permissions VALUES (gen_random_uuid(), :r1, :p3)',
      'INSERT INTO role_permissions VALUES (gen_random_uuid(), :r2, :p3)',
      'INSERT INTO user_organizations (user_organization_id, user_id, organization_id) VALUES (gen_random_uuid(), :u1, :o1)',
      `INSERT INTO organizations (organization_id, name, slug) VALUES (gen_random_uuid(), 'x', gen_random_uuid())`,
    ];
    // Any wait for a lock is an error, and both have the same users, roles and tree, in opposite order.
    for (const session of [client, other]) await session.query(`SET lock_timeout = '300ms'; BEGIN`);
    for (let step = 0; step < same.length; step += 1) {
      await client.query(withIds(same[step] as string));
      await other.query(withIds(same[same.length - 1 - step] as string));
    }
    await client.query('COMMIT');
    await other.query('COMMIT');
  });

  it.each(['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'])(
    'many at once about the same few: no conflict, every commit noted (%s)',
    async (isolation) => {
      const writers = await Promise.all(Array.from({ length: 6 }, () => sessions.open(database.url)));
      await takeNotes(client);
      let written = 0;
      await Promise.all(
        writers.map(async (writer) => {
          await writer.query(`SET lock_timeout = '2s'`);
          for (let round = 0; round < rounds(60, 10); round += 1) {
            await writer.query(`BEGIN ISOLATION LEVEL ${isolation}`);
            for (const user of ['u1', 'u2', 'u3'].sort(() => Math.random() - 0.5)) {
              await writer.query(
                withIds(
                  `INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (gen_random_uuid(), :${user}, :r1)`,
                ),
              );
              written += 1;
            }
            await writer.query('COMMIT');
          }
        }),
      );
      expect(await takeNotes(client)).toHaveLength(written);
    },
  );
});

describe('20,000 rows in one statement', () => {
  const ALL = 20_000;
  /** A join of the images with the plan of a small statement would take minutes. */
  const IN_TIME_MS = 10_000;
  const id = (kind: string) => `md5('${kind}' || n)::uuid`;
  const STATEMENTS: readonly [sql: string, notes: number][] = [
    [
      `INSERT INTO users (user_id, email, first_name, last_name) SELECT ${id('u')}, n, 'a', 'b' FROM generate_series(1, ${ALL}) AS n`,
      ALL,
    ],
    [
      `INSERT INTO user_roles (user_role_id, user_id, role_id) SELECT ${id('a')}, ${id('u')}, :r1 FROM generate_series(1, ${ALL}) AS n`,
      ALL,
    ],
    [`UPDATE user_roles SET is_active = NOT is_active`, ALL],
    [`UPDATE user_roles SET role_id = :r2`, ALL],
    [`UPDATE user_roles SET role_id = role_id`, 0],
    [`UPDATE users SET last_login = now()`, 0],
    [`UPDATE users SET email_verified = NOT email_verified`, ALL],
    [`DELETE FROM user_roles`, ALL],
    [`DELETE FROM users`, ALL],
  ];

  it('one row per id, in time, also when a small statement has chosen the plan', async () => {
    const bare = await sessions.open((await databases.create()).url);
    const noted = await sessions.open((await databases.create()).url);
    await noted.query(installSql());
    for (const session of [bare, noted]) {
      await session.query(ROWS);
      await session.query('ALTER TABLE users ADD last_login timestamptz; DELETE FROM user_organizations');
      await session.query(
        'UPDATE user_roles SET is_active = NOT is_active; UPDATE users SET email_verified = NULL',
      );
      await session.query('DELETE FROM user_roles; DELETE FROM users');
    }
    await takeNotes(noted);
    for (const [sql, notes] of STATEMENTS) {
      const without = await timed(() => bare.query(withIds(sql)));
      const took = await timed(() => noted.query(withIds(sql)));
      const written = await takeNotes(noted);
      console.info(`${sql.slice(0, 60)}: ${took} ms, ${without} ms without triggers`);
      expect([written.length, new Set(written).size], sql).toEqual([notes, notes]);
      expect(took, sql).toBeLessThan(IN_TIME_MS);
    }
  });
});

async function timed(run: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await run();
  return Math.round(performance.now() - start);
}
