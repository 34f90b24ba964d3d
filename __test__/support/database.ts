/**
 * One Postgres per spec file, one database per suite, with the application's schema in it. Not a mock: rows are
 * written as an application would write them. Invariant: every user has a `password_hash`, so that a test which
 * looks for one in the wrong place can find it.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { type PostgresServer, startPostgres } from '../servers/index.mjs';

const schema = readFileSync(join(__dirname, '../../demo/schema.sql'), 'utf8');

/** Part of every `password_hash` a test writes. */
export const PASSWORD_HASH = '$2b$12$NeverLeavesPostgres';

/** A row of `users`, dates as the driver gives them. */
export interface UserRow {
  user_id: string;
  email: string;
  first_name: string;
  last_name: string;
  password_hash: string;
  is_active: boolean | null;
  email_verified: boolean | null;
  provider_uid: number | null;
  created_at: Date | null;
  updated_at: Date | null;
  deleted_at: Date | null;
}

/** Columns of `users`; dates may be given as SQL text, which can say more than a `Date`. */
export type NewUser = { [Column in keyof UserRow]?: UserRow[Column] | string };

export interface Database extends AsyncDisposable {
  readonly url: string;
  query<Row extends object = Record<string, unknown>>(sql: string, values?: unknown[]): Promise<Row[]>;
  addUser(user?: NewUser): Promise<UserRow>;
  revoke(jti: string, expiresAt?: string): Promise<void>;
  /** Holds a table back from every reader and writer until the returned function is called. */
  lock(table: string): Promise<() => Promise<void>>;
}

export class Databases implements AsyncDisposable {
  readonly #pools: pg.Pool[] = [];
  #count = 0;

  private constructor(readonly server: PostgresServer) {}

  static async start(): Promise<Databases> {
    return new Databases(await startPostgres());
  }

  /** A new database with the application's tables. */
  async create(): Promise<Database> {
    this.#count += 1;
    const url = await this.server.createDatabase(`suite_${process.pid}_${this.#count}`);
    const pool = new pg.Pool({ connectionString: url, max: 4 });
    // A connection that ends with the server is no news to a test.
    pool.on('error', () => undefined);
    this.#pools.push(pool);
    await pool.query(schema);
    return new SuiteDatabase(url, pool);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#pools.map((pool) => pool.end()));
    await this.server.stop();
  }
}

class SuiteDatabase implements Database {
  constructor(
    readonly url: string,
    private readonly pool: pg.Pool,
  ) {}

  async query<Row extends object>(sql: string, values?: unknown[]): Promise<Row[]> {
    return (await this.pool.query<Row>(sql, values)).rows;
  }

  async addUser(user: NewUser = {}): Promise<UserRow> {
    const id = user.user_id ?? randomUUID();
    const row: NewUser = {
      user_id: id,
      email: `user-${id}@example.test`,
      first_name: 'Ada',
      last_name: 'Lovelace',
      password_hash: `${PASSWORD_HASH}-${id}`,
      ...user,
    };
    const columns = Object.keys(row);
    const places = columns.map((_, index) => `$${index + 1}`);
    const sql = `INSERT INTO users (${columns.join(', ')}) VALUES (${places.join(', ')}) RETURNING *`;
    const [written] = await this.query<UserRow>(sql, Object.values(row));
    if (written === undefined) throw new Error('INSERT ... RETURNING returned no row');
    return written;
  }

  async revoke(jti: string, expiresAt = '2030-01-01T00:00:00Z'): Promise<void> {
    await this.query(
      `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
       VALUES ($1, $2, 'access', $3, 'logout')`,
      [jti, randomUUID(), expiresAt],
    );
  }

  async lock(table: string): Promise<() => Promise<void>> {
    const client = await this.pool.connect();
    await client.query(`BEGIN; LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`);
    return async () => {
      await client.query('ROLLBACK');
      client.release();
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool.end();
  }
}
