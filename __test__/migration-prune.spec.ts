/**
 * Pruning the notes of the migration (`source/outbox/prune.sql`), and cursors that the statement which reads them must
 * not trust. Invariant: no reader goes on as if nothing had happened after notes it has not read are gone.
 */
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, Databases } from './support/database.js';
import { installSql, type Note, pruneSql, Tail } from './support/migration.js';
import { ROWS, Sessions, token, withIds, withNames } from './support/migration-rows.js';

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
});
afterAll(() => databases[Symbol.asyncDispose]());

let sessions: Sessions;
let reader: pg.Client;
let tail: Tail;
let open: () => Promise<pg.Client>;
beforeEach(async () => {
  sessions = new Sessions();
  database = await databases.create();
  await database.query(installSql());
  await database.query(ROWS);
  open = () => sessions.open(database.url);
  reader = await open();
  tail = await Tail.atEnd(reader);
});
afterEach(() => sessions[Symbol.asyncDispose]());

/** A note `token <jti>`. */
const revoke = (client: { query(sql: string): Promise<unknown> }, jti: string) =>
  client.query(withIds(token(jti)));
const read = async (from = tail): Promise<Note[]> => {
  const notes = (await from.read()).map(withNames).sort();
  expect(from.reset).toBe(false);
  return notes;
};

describe('when a cursor cannot be trusted', () => {
  const reset = async (from = tail): Promise<boolean> => {
    await from.read();
    return from.reset;
  };

  it('no cursor, another server, a future that was undone', async () => {
    expect(await reset(new Tail(reader))).toBe(true);
    expect(await reset()).toBe(false);
    tail.server = '1';
    expect(await reset()).toBe(true);
    expect(await reset()).toBe(false);
    tail.server = null;
    expect(await reset()).toBe(false);
    tail.snapshot = '9000000:9000000:';
    expect(await reset()).toBe(true);
    expect(await reset()).toBe(false);
  });

  it('the clock of an answer is not later than what it has seen', async () => {
    const { rows } = await reader.query<{ ms: string }>(
      'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS ms',
    );
    await read();
    expect(tail.nowMs).toBeGreaterThanOrEqual(Number(rows[0]?.ms) - 1);
    expect(Math.abs(tail.nowMs - Date.now())).toBeLessThan(10_000);
  });

  it('more than an answer holds', async () => {
    const insert = (count: number) =>
      reader.query(
        `INSERT INTO bcos_cache.outbox (kind, ref) SELECT 'user', n FROM generate_series(1, $1::int) AS n`,
        [count],
      );
    await insert(100_000);
    expect(await tail.read()).toHaveLength(100_000);
    expect(tail.reset).toBe(false);
    await insert(100_001);
    expect(await reset()).toBe(true);
    expect(await reset()).toBe(false);
  });

  it('notes of another server, brought by a dump, are neither answered for ever nor kept', async () => {
    await reader.query(`INSERT INTO bcos_cache.outbox (kind, ref, xid, horizon, at)
      SELECT 'user', n, (900000000 + n)::text::xid8, (900000000 + n)::text::xid8, now() - interval '2 hours' FROM generate_series(1, 10) AS n`);
    await revoke(database, 'x');
    expect(await read()).toEqual(['token x']);
    expect(await read()).toEqual([]);
    // Nor do they say what may be pruned: the last writer's note stays, however old.
    await reader.query(`UPDATE bcos_cache.outbox SET at = at - interval '2 hours'`);
    expect((await reader.query(pruneSql())).rowCount).toBeGreaterThan(10);
    expect((await reader.query('SELECT ref FROM bcos_cache.outbox')).rows).toEqual([{ ref: 'x' }]);
  });
});

describe('pruning', () => {
  /** Makes all notes, committed or of this transaction, older. */
  const age = (client: pg.Client, by: string) =>
    client.query(`UPDATE bcos_cache.outbox SET at = at - interval '${by}'`);
  const prune = async (): Promise<number | null> => (await reader.query(pruneSql())).rowCount;
  const left = async (): Promise<Note[]> => {
    const { rows } = await reader.query<{ ref: string }>('SELECT ref FROM bcos_cache.outbox ORDER BY id');
    return rows.map(({ ref }) => ref);
  };

  beforeEach(async () => {
    await reader.query('DELETE FROM bcos_cache.outbox');
  });

  it('takes what ended an hour ago, and leaves the rest and the last writer', async () => {
    for (const jti of ['a', 'b', 'c']) await revoke(database, jti);
    expect(await prune()).toBe(0);
    await age(reader, '61 minutes');
    await revoke(database, 'd');
    expect(await prune()).toBe(2);
    expect(await left()).toEqual(['c', 'd']);
    expect(await prune()).toBe(0);
  });

  it('in batches', async () => {
    await reader.query(
      `INSERT INTO bcos_cache.outbox (kind, ref) SELECT 'user', n FROM generate_series(1, 12000) AS n`,
    );
    await revoke(database, 'last');
    await age(reader, '2 hours');
    expect([await prune(), await prune(), await prune(), await prune()]).toEqual([5_000, 5_000, 2_000, 0]);
    expect(await left()).toEqual(['last']);
  });

  it('a transaction open for hours: its old notes are not pruned before they are read', async () => {
    const long = await open();
    await long.query('BEGIN');
    await revoke(long, 'long');
    await age(long, '3 hours');
    await revoke(database, 'during');
    await read();
    await age(reader, '2 hours');
    await revoke(database, 'after');
    expect(await prune()).toBe(0);
    expect(await read()).toEqual(['token after']);
    await long.query('COMMIT');
    expect(await prune()).toBe(0);
    expect(await read()).toEqual(['token long']);
    // What was written after its end grows old as well: then it goes, with all before it.
    await revoke(database, 'end');
    await age(reader, '61 minutes');
    expect(await prune()).toBe(3);
    expect(await left()).toEqual(['end']);
  });

  it('a reader that was overtaken is told so; one that was only away is not', async () => {
    const away = new Tail(reader);
    const overtaken = new Tail(reader);
    await Promise.all([away.read(), overtaken.read()]);
    for (const jti of ['a', 'b', 'c']) await revoke(database, jti);
    await age(reader, '30 minutes');
    expect(await prune()).toBe(0);
    expect(await read(away)).toEqual(['token a', 'token b', 'token c']);
    await age(reader, '31 minutes');
    expect(await prune()).toBe(2);
    await revoke(database, 'd');
    expect(await read(away)).toEqual(['token d']);
    expect(await overtaken.read()).toContain('token d');
    expect(overtaken.reset).toBe(true);
    expect(await read(overtaken)).toEqual([]);
  });
});

it('reading stays in the index: with a prepared plan, without statistics, under an old transaction', async () => {
  const old = await open();
  await old.query('BEGIN; SELECT pg_current_xact_id()');
  await reader.query(
    `INSERT INTO bcos_cache.outbox (kind, ref) SELECT 'user', n FROM generate_series(1, 60000) AS n`,
  );
  await tail.read();
  const times: number[] = [];
  for (let round = 0; round < 20; round += 1) {
    await revoke(database, `x${round}`);
    const start = performance.now();
    expect(await read()).toEqual([`token x${round}`]);
    times.push(performance.now() - start);
  }
  console.info(`60,000 notes: ${times.sort((a, b) => a - b)[10]?.toFixed(2)} ms an answer`);
  const plan = await reader.query<Record<string, string>>(
    `EXPLAIN EXECUTE tail ('${tail.snapshot}', '${tail.server}')`,
  );
  const lines = plan.rows.map((row) => row['QUERY PLAN'] ?? '').join('\n');
  expect(lines).toContain('outbox_xid');
  expect(lines).not.toContain('Seq Scan on outbox');
});
