/**
 * A few rows in every table the triggers watch, with ids that read as names: `:u1` in SQL is a uuid, and a note about
 * it reads `user u1`. Invariant: p3 is held by no role, r3 holds nothing and nobody has it, o2 has no members.
 */
import pg from 'pg';
import { type Note, takeNotes } from './migration.js';

const PREFIX = '00000000-0000-4000-8000-';

export const idOf = (name: string): string => PREFIX + Buffer.from(name).toString('hex').padStart(12, '0');

/** `:u1` becomes a uuid; casts stay. */
export const withIds = (sql: string): string =>
  sql.replace(/(?<!:):([a-z]\d+)\b/g, (_, name: string) => `'${idOf(name)}'`);

export const withNames = (note: Note): Note =>
  note.replace(new RegExp(`${PREFIX}0*([0-9a-f]+)`), (_, hex: string) => Buffer.from(hex, 'hex').toString());

export const ROWS = withIds(`
  INSERT INTO organizations (organization_id, name, slug, practice_uids) VALUES (:o1, 'o1', 'o1', '{1,2}'), (:o2, 'o2', 'o2', NULL);
  INSERT INTO users (user_id, email, first_name, last_name) VALUES (:u1, 'u1', 'a', 'b'), (:u2, 'u2', 'a', 'b'), (:u3, 'u3', 'a', 'b');
  INSERT INTO roles (role_id, name) VALUES (:r1, 'r1'), (:r2, 'r2'), (:r3, 'r3');
  INSERT INTO permissions (permission_id, name, resource, action, scope) VALUES
    (:p1, 'p1', 'x', 'read', 'own'), (:p2, 'p2', 'x', 'write', 'own'), (:p3, 'p3', 'x', 'drop', 'own');
  INSERT INTO role_permissions VALUES (:g1, :r1, :p1), (:g2, :r2, :p1), (:g3, :r2, :p2);
  INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (:a1, :u1, :r1), (:a2, :u2, :r1), (:a3, :u2, :r2);
  INSERT INTO user_organizations (user_organization_id, user_id, organization_id) VALUES (:m1, :u1, :o1), (:m2, :u2, :o1);
  INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason) VALUES
    ('j1', :u1, 'access', '2030-01-01', 'logout'), ('j2', :u2, 'access', '2030-01-01', 'logout');
`);

/** The row of a token. */
export const token = (jti: string): string =>
  `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason) VALUES ('${jti}', :u1, 'access', '2030-01-01', 'logout')`;

/** Connections of one test. */
export class Sessions implements AsyncDisposable {
  readonly #clients: pg.Client[] = [];

  async open(url: string, user?: string): Promise<pg.Client> {
    const address = new URL(url);
    if (user !== undefined) address.username = user;
    const client = new pg.Client({ connectionString: address.href });
    client.on('error', () => undefined);
    await client.connect();
    this.#clients.push(client);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.end()));
  }
}

/** What `sql` writes, by names; nothing of it stays. */
export async function notesOf(client: pg.Client, sql: string): Promise<Note[]> {
  await client.query('BEGIN; DELETE FROM bcos_cache.outbox');
  try {
    await client.query(withIds(sql));
    return (await takeNotes(client)).map(withNames).sort();
  } finally {
    await client.query('ROLLBACK');
  }
}

/** Everything of the migration that the database knows. */
export async function tracesIn(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ trace: string }>(`
    SELECT 'schema ' || nspname AS trace FROM pg_namespace WHERE nspname LIKE '%bcos%'
    UNION ALL SELECT 'relation ' || oid::regclass FROM pg_class WHERE relnamespace::regnamespace::text LIKE '%bcos%'
    UNION ALL SELECT 'function ' || oid::regproc FROM pg_proc WHERE pronamespace::regnamespace::text LIKE '%bcos%'
    UNION ALL SELECT 'trigger ' || tgname || ' on ' || tgrelid::regclass || ' ' || tgenabled::text
      FROM pg_trigger WHERE NOT tgisinternal
    ORDER BY 1`);
  return rows.map(({ trace }) => trace);
}
