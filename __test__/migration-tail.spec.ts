/**
 * Reading what the migration's triggers write: the statement `source/outbox/poll.sql`. Not about the tailer that runs
 * it, nor about cursors that are too old (`migration-prune.spec.ts`). Invariant: every committed note is answered
 * exactly once, by the first call that begins after its commit, or the call says that everything must be voided.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Database, Databases } from './support/database.js';
import { installSql, type Note, Tail } from './support/migration.js';
import { ROWS, Sessions, token, withIds, withNames } from './support/migration-rows.js';
import { rounds } from './support/rounds.js';

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
  await databases.server.query('ALTER SYSTEM SET max_prepared_transactions = 10');
  await databases.server.restart();
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

describe('nothing is lost, nothing comes twice', () => {
  it('transactions that end in another order than they began and wrote', async () => {
    const [first, second, third] = [await open(), await open(), await open()];
    for (const [index, client] of [first, second, third].entries()) {
      await client.query('BEGIN');
      await revoke(client, `a${index}`);
    }
    await revoke(first, 'b0');
    await second.query('COMMIT');
    expect(await read()).toEqual(['token a1']);
    expect(await read()).toEqual([]);
    await third.query('COMMIT');
    await revoke(database, 'later');
    expect(await read()).toEqual(['token a2', 'token later']);
    await first.query('COMMIT');
    expect(await read()).toEqual(['token a0', 'token b0']);
    expect(await read()).toEqual([]);
  });

  it('a transaction that writes only after others, whose id is older than what was read', async () => {
    const [early, other] = [await open(), await open()];
    await early.query('BEGIN; SELECT pg_current_xact_id()');
    await revoke(other, 'x');
    expect(await read()).toEqual(['token x']);
    await revoke(early, 'y');
    expect(await read()).toEqual([]);
    await early.query('COMMIT');
    expect(await read()).toEqual(['token y']);
  });

  it('an open transaction delays nobody, and is answered when it commits', async () => {
    const old = await open();
    await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await revoke(old, 'old');
    const end = Date.now() + 5_000;
    for (let round = 0; Date.now() < end; round += 1) {
      await revoke(database, `new${round}`);
      expect(await read()).toEqual([`token new${round}`]);
      await sleep(50);
    }
    await revoke(old, 'old too');
    await old.query('COMMIT');
    expect(await read()).toEqual(['token old', 'token old too']);
  });

  it.each([1, 200])('savepoints: %i released, and as many rolled back', async (count) => {
    const client = await open();
    await client.query('BEGIN');
    const kept: Note[] = [];
    // More than 64 overflow what a snapshot knows of subtransactions.
    for (let index = 0; index < count; index += 1) {
      await client.query('SAVEPOINT outer_one');
      await revoke(client, `kept${index}`);
      kept.push(`token kept${index}`);
      await client.query('SAVEPOINT inner_one');
      await revoke(client, `gone${index}`);
      await client.query('ROLLBACK TO inner_one');
      if (index % 2 === 0) await client.query('RELEASE outer_one');
    }
    expect(await read()).toEqual([]);
    await revoke(database, 'other');
    expect(await read()).toEqual(['token other']);
    await client.query('COMMIT');
    expect(await read()).toEqual(kept.sort());
  });

  it('rollbacks and broken connections', async () => {
    const [undone, killed] = [await open(), await open()];
    for (const client of [undone, killed]) {
      await client.query('BEGIN');
      await revoke(client, 'never');
      await client.query('DELETE FROM user_roles');
      if (client === undone) await client.query('ROLLBACK');
    }
    const { rows } = await killed.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    await database.query('SELECT pg_terminate_backend($1, 5000)', [rows[0]?.pid]);
    await revoke(database, 'x');
    expect(await read()).toEqual(['token x']);
  });

  it('prepared transactions: they can be prepared, and are answered when they commit', async () => {
    const client = await open();
    await client.query(`BEGIN; ${withIds(token('x'))}; TRUNCATE user_roles; PREPARE TRANSACTION 'one'`);
    await client.query(`BEGIN; ${withIds(token('y'))}; PREPARE TRANSACTION 'two'`);
    expect(await read()).toEqual([]);
    await client.query(`COMMIT PREPARED 'one'`);
    await client.query(`ROLLBACK PREPARED 'two'`);
    expect(await read()).toEqual(['all', 'token x']);
  });

  it('what is written several times is answered once', async () => {
    const toggle = 'UPDATE users SET is_active = NOT is_active WHERE user_id = :u1;';
    await database.query(
      withIds(`BEGIN; ${toggle.repeat(5)} COMMIT; BEGIN; ${toggle} DELETE FROM user_roles; COMMIT`),
    );
    expect(await read()).toEqual(['user u1', 'user u2']);
  });
});

describe('a permission and a grant of it, changed at once', () => {
  const change = 'UPDATE permissions SET is_active = false WHERE permission_id = :p3';
  const grant = 'INSERT INTO role_permissions VALUES (:g9, :r3, :p3)';

  // Neither sees the other: r3 would keep the permission that somebody filled in between the commits.
  it.each([
    ['the change', change, grant],
    ['the grant', grant, change],
  ])('%s commits last', async (_, last, first) => {
    const [one, other] = [await open(), await open()];
    await one.query(withIds(`BEGIN; ${last}`));
    await other.query(withIds(`BEGIN; ${first}; COMMIT`));
    const before = await read();
    await one.query('COMMIT');
    expect(await read()).toEqual(['role r3']);
    expect(before).toEqual(first === grant ? ['role r3'] : []);
  });
});

describe('many writers', () => {
  const WRITERS = 6;
  const random = (below: number): number => Math.floor(Math.random() * below);

  interface Commit {
    readonly notes: Note[];
    readonly acknowledged: number;
  }

  /** Random transactions; each note is written by one of them, so that it must be answered once. */
  async function write(client: pg.Client, name: string, transactions: number): Promise<Commit[]> {
    const commits: Commit[] = [];
    for (let index = 0; index < transactions; index += 1) {
      const notes: Note[] = [];
      await client.query('BEGIN');
      for (let step = random(5); step >= 0; step -= 1) {
        const jti = `${name}.${index}.${step}`;
        const undone = random(4) === 0;
        await client.query('SAVEPOINT s');
        await revoke(client, jti);
        if (random(3) === 0) await sleep(random(8));
        await client.query(undone ? 'ROLLBACK TO s' : 'RELEASE s');
        if (!undone) notes.push(`token ${jti}`);
      }
      const undone = random(5) === 0;
      await client.query(undone ? 'ROLLBACK' : 'COMMIT');
      if (!undone) commits.push({ notes, acknowledged: performance.now() });
    }
    return commits;
  }

  it('every committed note once, in the first answer after its commit; the cursors that are wrong lose some', async () => {
    const long = await open();
    await long.query('BEGIN');
    await revoke(long, 'long');
    const writers = await Promise.all(Array.from({ length: WRITERS }, open));
    let writing = true;
    const work = Promise.all(
      writers.map((client, index) => write(client, `w${index}`, rounds(150, 30))),
    ).finally(() => {
      writing = false;
    });

    const answers: { began: number; notes: Note[] }[] = [];
    const naive = { last: 0, seen: new Set<Note>() };
    const poll = async (): Promise<void> => {
      const began = performance.now();
      const since = tail.snapshot;
      // One snapshot for the statement, for the formula it must equal, and for a cursor by id.
      await reader.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      const notes = await read();
      const formula = await reader.query<{ note: Note }>(
        `SELECT DISTINCT kind || ' ' || ref AS note FROM bcos_cache.outbox
         WHERE xid >= pg_snapshot_xmin($1::pg_snapshot) AND NOT pg_visible_in_snapshot(xid, $1::pg_snapshot)`,
        [since],
      );
      const { rows } = await reader.query<{ id: string; note: Note }>(
        `SELECT id, kind || ' ' || ref AS note FROM bcos_cache.outbox WHERE id > $1 ORDER BY id`,
        [naive.last],
      );
      await reader.query('COMMIT');
      expect(notes).toEqual(formula.rows.map(({ note }) => note).sort());
      answers.push({ began, notes });
      for (const { id, note } of rows) {
        naive.last = Number(id);
        naive.seen.add(note);
      }
    };
    while (writing) {
      await poll();
      await sleep(random(4));
    }
    const commits = (await work).flat();
    await long.query('COMMIT');
    commits.push({ notes: ['token long'], acknowledged: performance.now() });
    await poll();

    const committed = commits.flatMap(({ notes }) => notes).sort();
    expect(answers.flatMap(({ notes }) => notes).sort()).toEqual(committed);
    const answeredBy = new Map(answers.flatMap(({ notes }, index) => notes.map((note) => [note, index])));
    for (const { notes, acknowledged } of commits) {
      const inTime = answers.findIndex(({ began }) => began > acknowledged);
      for (const note of notes) expect(answeredBy.get(note), note).toBeLessThanOrEqual(inTime);
    }
    const lost = committed.filter((note) => !naive.seen.has(note));
    console.info(
      `${committed.length} notes in ${answers.length} answers; a cursor by id would lose ${lost.length}`,
    );
    expect(lost.length).toBeGreaterThan(0);
  });
});
