/**
 * `DATABASE_PGBOUNCER`: the source behind a real PgBouncer in transaction mode, where two statements of one connection
 * may meet two servers. Not about the store: there is none, so that every read goes to the source.
 * Invariant: every question has one right answer, and many different ones are under way at once over two servers.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BcosCacheError, type Engine, type EngineOptions } from '../index.js';
import { type Pgbouncer, startPgbouncer } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, statements, until } from './support/engines.js';
import { timed } from './support/functions.js';
import { rounds } from './support/rounds.js';

const SERVERS = 2;
/** Enough for every statement to wait for one of two servers on a busy machine. */
const PATIENT_MS = 8_000;
const DEADLINE_MS = 400;
/** A late statement is ended 500 ms after its deadline, and its connection given up 1,000 ms later. */
const ENDED_MS = DEADLINE_MS + 1_500;

interface Person {
  readonly user_id: string;
  readonly email: string;
}

let databases: Databases;
let database: Database;
let people: readonly Person[];
let revoked: readonly string[];
let pooler: Pgbouncer;
let engines: Engines;

beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  people = await database.query<Person>(
    `INSERT INTO users (user_id, email, first_name, last_name)
     SELECT id, id || '@example.test', 'Ada', 'Lovelace' FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 300)) AS ids
     RETURNING user_id, email`,
  );
  const rows = await database.query<{ jti: string }>(
    `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
     SELECT gen_random_uuid(), gen_random_uuid(), 'access', '2030-01-01', 'logout' FROM generate_series(1, 300)
     RETURNING jti`,
  );
  revoked = rows.map(({ jti }) => jti);
});
afterAll(() => databases[Symbol.asyncDispose]());

beforeEach(() => {
  engines = new Engines();
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
  await pooler?.stop();
});

const start = (options: EngineOptions): Engine =>
  engines.start({ databaseUrl: pooler.through(database.url), cacheSourceDeadlineMs: PATIENT_MS }, options);

interface Question {
  readonly name: string;
  ask(engine: Engine): Promise<unknown>;
  readonly right: unknown;
}

/** Every kind of statement there is, each about something else, so that no two calls share a load. */
function questions(count: number): Question[] {
  return Array.from({ length: count }, (_, index): Question => {
    const person = people[Math.floor(index / 5) % people.length] as Person;
    const jti = revoked[Math.floor(index / 5) % revoked.length] as string;
    switch (index % 5) {
      case 0: {
        const ask = async (engine: Engine) => (await engine.getUserById(person.user_id))?.email;
        return { name: 'getUserById', ask, right: person.email };
      }
      case 1: {
        const ask = async (engine: Engine) => (await engine.getUserByEmail(person.email))?.user_id;
        return { name: 'getUserByEmail', ask, right: person.user_id };
      }
      case 2:
        return { name: 'revoked', ask: (engine) => engine.isTokenBlacklisted(jti), right: true };
      case 3:
        return {
          name: 'not revoked',
          ask: (engine) => engine.isTokenBlacklisted(randomUUID()),
          right: false,
        };
      default:
        return { name: 'unknown user', ask: (engine) => engine.getUserById(randomUUID()), right: null };
    }
  });
}

const told = (value: unknown): string =>
  typeof value === 'boolean' ? String(value) : (value ?? null) === null ? 'nobody' : 'somebody else';

/** Asks all of them at once and answers what was not the truth, each kind of it once. */
async function complaints(engine: Engine, count: number): Promise<string[]> {
  const found = await Promise.all(
    questions(count).map(async ({ name, ask, right }) => {
      const ended = await outcome(ask(engine));
      if ('error' in ended) return `${name}: ${String(ended.error)}`;
      return (ended.value ?? null) === right ? undefined : `${name}: answered ${told(ended.value)}`;
    }),
  );
  return [...new Set(found.filter((one) => one !== undefined))].sort();
}

const occurrences = (text: string, part: string): number => text.split(part).length - 1;

/** The log from here on. */
function follow(server: { log(): string }): () => string {
  const { length } = server.log();
  return () => server.log().slice(length);
}

describe('databasePgbouncer: true', () => {
  beforeEach(async () => {
    pooler = await startPgbouncer({ port: databases.server.port, poolSize: SERVERS });
  });

  it('hundreds of concurrent mixed reads over two servers are all answered rightly', async () => {
    const engine = start({ databasePgbouncer: true });
    const log = follow(databases.server);
    for (let round = 0; round < rounds(8, 2); round += 1) {
      const before = statements(engine);
      expect(await complaints(engine, 500)).toEqual([]);
      // Nothing was answered without a statement of its own, but for revocations that a round before told.
      expect(statements(engine) - before).toBeGreaterThanOrEqual(400);
    }
    expect(log()).not.toMatch(/prepared statement/);
    expect(log()).not.toContain('ERROR');
    // They really shared: eight clients, two servers.
    expect(occurrences(pooler.log(), 'new connection to server')).toBe(SERVERS);
    expect(occurrences(pooler.log(), 'login attempt')).toBeGreaterThan(SERVERS);
  });

  it('several processes share the servers without meeting the statements of each other', async () => {
    const several = Array.from({ length: 4 }, () => start({ databasePgbouncer: true, databasePoolMax: 4 }));
    for (let round = 0; round < rounds(4, 1); round += 1) {
      const found = await Promise.all(several.map((engine) => complaints(engine, 150)));
      expect(found).toEqual(several.map(() => []));
    }
    expect(occurrences(pooler.log(), 'new connection to server')).toBe(SERVERS);
  });

  it('revocations are written while others read', async () => {
    const engine = start({ databasePgbouncer: true });
    const written = Array.from({ length: rounds(150, 50) }, () => randomUUID());
    const [ended, found] = await Promise.all([
      Promise.all(
        written.map((jti) =>
          outcome(
            engine.blacklistToken({
              jti,
              userId: randomUUID(),
              tokenType: 'access',
              expiresAt: Date.now() + 60_000,
              reason: 'logout',
            }),
          ),
        ),
      ),
      complaints(engine, 200),
    ]);
    expect(found).toEqual([]);
    const failed = ended.flatMap((one) => ('error' in one ? [String(one.error)] : []));
    expect([...new Set(failed)]).toEqual([]);
    const rows = await database.query('SELECT jti FROM token_blacklist WHERE jti = ANY($1)', [written]);
    expect(rows).toHaveLength(written.length);
  });

  it('a refused statement leaves nothing behind for the next one on its server', async () => {
    const engine = start({ databasePgbouncer: true });
    await database.query('ALTER TABLE users RENAME TO users_gone');
    try {
      for (let round = 0; round < 2 * SERVERS + 2; round += 1) {
        await expect(engine.getUserById(randomUUID())).rejects.toMatchObject({
          code: 'E_SOURCE_UNAVAILABLE',
        });
        expect(await engine.isTokenBlacklisted(randomUUID())).toBe(false);
      }
    } finally {
      await database.query('ALTER TABLE users_gone RENAME TO users');
    }
    expect(await complaints(engine, 100)).toEqual([]);
  });

  it('the pooler is killed and comes back: typed errors meanwhile, right answers afterwards', async () => {
    const engine = start({ databasePgbouncer: true, cacheSourceDeadlineMs: DEADLINE_MS });
    expect(await engine.isTokenBlacklisted(revoked[0] as string)).toBe(true);
    await pooler.kill();
    for (const { ask } of questions(20).filter(({ right }) => right !== true)) {
      await expect(ask(engine)).rejects.toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
    }
    await pooler.restart();
    await until('the source answers', async () => (await complaints(engine, 5)).length === 0, 2_000);
  });
});

/** The application's own statements that wait for a lock at this moment. */
async function waiting(): Promise<number> {
  const [row] = await database.query<{ count: number }>(
    `SELECT count(*)::int AS count FROM pg_stat_activity
     WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%"users"%'`,
  );
  return row?.count ?? 0;
}

describe.each([
  { way: 'directly', databasePgbouncer: false },
  { way: 'behind the pooler', databasePgbouncer: true },
])('a statement that runs past the deadline, $way', ({ databasePgbouncer }) => {
  it('is ended by the server, and the pool recovers', async () => {
    pooler = await startPgbouncer({ port: databases.server.port, poolSize: SERVERS });
    const engine = start({
      databasePgbouncer,
      cacheSourceDeadlineMs: DEADLINE_MS,
      databasePoolMax: SERVERS,
      ...(databasePgbouncer ? {} : { databaseUrl: database.url }),
    });
    expect(await engine.isTokenBlacklisted(randomUUID())).toBe(false);
    const unlock = await database.lock('users');
    const begin = performance.now();
    try {
      // As many as there are connections and servers: all of them are taken.
      const late = Array.from({ length: SERVERS }, () => timed(() => engine.getUserById(randomUUID())));
      await until('the statements wait for the lock', async () => (await waiting()) === SERVERS, DEADLINE_MS);
      for (const ended of await Promise.all(late)) {
        expect(ended).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
        expect(ended.ms).toBeLessThan(DEADLINE_MS + 300);
      }
      const left = ENDED_MS + 500 - (performance.now() - begin);
      await until('no statement waits for the lock any more', async () => (await waiting()) === 0, left);
      // The lock is still held: what does not need it is answered.
      await until(
        'the source answers',
        async () => 'value' in (await outcome(engine.isTokenBlacklisted(randomUUID()))),
        2_000,
      );
      expect(await engine.isTokenBlacklisted(revoked[0] as string)).toBe(true);
    } finally {
      await unlock();
    }
    await until('users are answered again', async () => (await complaints(engine, 5)).length === 0, 2_000);
    expect(await complaints(engine, 20)).toEqual([]);
  });
});

describe('databasePgbouncer: false', () => {
  const refusal = async (engine: Engine, ask: Question['ask']): Promise<string> => {
    const ended = await outcome(ask(engine));
    if (!('error' in ended)) throw new Error('answered');
    expect(ended.error).toBeInstanceOf(BcosCacheError);
    expect(ended.error).toMatchObject({ code: 'E_SOURCE_UNAVAILABLE' });
    return String(ended.error);
  };

  it('the pooler refuses the startup parameters: E_SOURCE_UNAVAILABLE for everything', async () => {
    pooler = await startPgbouncer({ port: databases.server.port, poolSize: SERVERS });
    const engine = start({ databasePgbouncer: false });
    const refusals = await Promise.all(questions(50).map(({ ask }) => refusal(engine, ask)));
    expect(refusals.join('\n')).toContain('08P01');
    expect(pooler.log()).toContain('unsupported startup parameter');
    expect((await engine.getHealth()).source.status).toBe('down');
    // The same pooler serves an engine that knows of it.
    expect(await start({ databasePgbouncer: true }).isTokenBlacklisted(revoked[0] as string)).toBe(true);
  });

  it('the control: a pooler that ignores those parameters loses the prepared statements', async () => {
    pooler = await startPgbouncer({
      port: databases.server.port,
      poolSize: SERVERS,
      ignoreStartupParameters: ['extra_float_digits', 'options'],
    });
    const log = follow(databases.server);
    expect(await complaints(start({ databasePgbouncer: false }), 500)).not.toEqual([]);
    expect(log()).toMatch(/prepared statement "[^"]+" (already exists|does not exist)/);
  });
});
