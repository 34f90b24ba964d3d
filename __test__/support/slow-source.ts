/**
 * A second schema whose views read the application's tables slowly and count their readers. Not a fault: answers are
 * right, and as old as the start of the statement, which is what a load that straddles an invalidation needs.
 * Invariant: a statement that reads a view is counted once and pauses before the table is read, after its snapshot.
 */
import type { EngineOptions } from '../../index.js';
import type { Database } from './database.js';

const TABLES = ['users', 'token_blacklist'] as const;

const SCHEMA = `
  CREATE SCHEMA slow;
  CREATE TABLE slow.pace (least_ms double precision NOT NULL, most_ms double precision NOT NULL);
  INSERT INTO slow.pace VALUES (0, 0);
  CREATE FUNCTION slow.pause(reads regclass) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
  DECLARE seconds double precision;
  BEGIN
    PERFORM nextval(reads);
    SELECT (least_ms + random() * (most_ms - least_ms)) / 1000 INTO seconds FROM slow.pace;
    PERFORM pg_sleep(seconds);
    RETURN true;
  END $$;
  ${TABLES.map(
    (table) => `
      CREATE SEQUENCE slow.${table}_reads;
      CREATE VIEW slow.${table} AS SELECT * FROM public.${table}
        WHERE (SELECT slow.pause('slow.${table}_reads'));`,
  ).join('')}`;

/** Sends an engine to the views. */
export const slowSchema: EngineOptions = {
  cacheSchemaAllow: ['public', 'slow'],
  schema: { users: { schema: 'slow' }, token_blacklist: { schema: 'slow' } },
};

export class SlowSource {
  private constructor(private readonly database: Database) {}

  static async in(database: Database): Promise<SlowSource> {
    await database.query(SCHEMA);
    return new SlowSource(database);
  }

  /** Every statement takes a random time between the two. */
  async pace(leastMs: number, mostMs = leastMs): Promise<void> {
    await this.database.query('UPDATE slow.pace SET least_ms = $1, most_ms = $2', [leastMs, mostMs]);
  }

  /** Statements that have read a view, as Postgres counted them; those that still pause included. */
  async reads(table: (typeof TABLES)[number]): Promise<number> {
    const sql = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS reads FROM slow.${table}_reads`;
    const [row] = await this.database.query<{ reads: string }>(sql);
    return Number(row?.reads);
  }
}
