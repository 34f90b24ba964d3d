/**
 * Issue 2, "outage": Postgres is down, slow or restarted, alone or together with the store. The store, and what it
 * holds, keeps answering; the rest is an error that says so, in time.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { BcosCacheError, type Engine, type EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import {
  calling,
  complaint,
  complaints,
  functions,
  newWorld,
  timed,
  type World,
} from './support/functions.js';
import { pending, RECOVERY_MS, reaching, STORE_DEADLINE_MS } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

/** `CACHE_SOURCE_DEADLINE_MS` of the engines here: shorter than the default, so that a slow source is soon late. */
const SOURCE_DEADLINE_MS = 400;

/** A function may ask the source twice, and meet a slow store in between; the rest is room for a busy machine. */
const IN_TIME_MS = 2 * SOURCE_DEADLINE_MS + 2 * STORE_DEADLINE_MS + 400;

let databases: Databases;
let database: Database;
let server: Server;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  server = await startValkey();
});
afterAll(async () => {
  await server.stop();
  await databases[Symbol.asyncDispose]();
});

let engines: Engines;
let engine: Engine;
let world: World;
beforeEach(async () => {
  engines = new Engines();
  engine = start();
  world = await newWorld(database);
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
});

const start = (options: EngineOptions = {}): Engine =>
  engines.start(
    { databaseUrl: database.url, cacheSourceDeadlineMs: SOURCE_DEADLINE_MS },
    reaching(server),
    options,
  );

const code = (ended: object): unknown =>
  'error' in ended && ended.error instanceof BcosCacheError ? ended.error.code : ended;

interface Trouble {
  readonly name: string;
  begin(): Promise<() => Promise<unknown>>;
}

const troubles: readonly Trouble[] = [
  {
    name: 'killed',
    begin: async () => {
      await databases.server.kill();
      return () => databases.server.restart();
    },
  },
  {
    name: 'stopped with SIGSTOP',
    begin: async () => {
      await databases.server.pause();
      return () => databases.server.resume();
    },
  },
  {
    name: 'slow: its tables are locked by somebody else',
    begin: async () => {
      const unlock = [await database.lock('users'), await database.lock('token_blacklist')];
      return () => Promise.all(unlock.map((one) => one()));
    },
  },
];

describe.each(troubles)('Postgres $name', ({ begin }) => {
  let end: (() => Promise<unknown>) | undefined;
  const recover = async () => {
    const ending = end;
    end = undefined;
    await ending?.();
  };
  afterEach(recover);

  it('every function tells the truth or E_SOURCE_UNAVAILABLE, in time', async () => {
    expect(await complaints(engine, world, { source: 'up', withinMs: 5_000 })).toEqual([]);
    end = await begin();
    for (let round = 0; round < rounds(2, 1); round += 1) {
      expect(await complaints(engine, world, { source: 'down', withinMs: IN_TIME_MS })).toEqual([]);
    }
  });

  it('what the store holds is answered from there, what it does not hold is an error and never false', async () => {
    const token = signed(claimsOf(world.user.user_id));
    const filler = start();
    await filler.getUserById(world.user.user_id);
    await filler.getUserById(world.deactivated.user_id);
    await filler.verifyTokenCached(token, verified);
    expect(await filler.isTokenBlacklisted(world.clean)).toBe(false);
    expect(await filler.isTokenBlacklisted(world.revoked)).toBe(true);
    await engine.getCachedTokenBlacklistStatus(randomUUID());
    await until('the store is in service', () => engine.isRedisAvailable());
    end = await begin();
    expect((await engine.getUserById(world.user.user_id))?.email).toBe(world.user.email);
    expect(await engine.getUserById(world.deactivated.user_id)).toBeNull();
    expect(await engine.isTokenBlacklisted(world.clean)).toBe(false);
    expect(await engine.isTokenBlacklisted(world.revoked)).toBe(true);
    expect(await engine.getCachedJWTPayload(token)).not.toBeNull();
    for (let round = 0; round < rounds(10, 4); round += 1) {
      expect(code(await outcome(engine.isTokenBlacklisted(randomUUID())))).toBe('E_SOURCE_UNAVAILABLE');
      expect(code(await outcome(engine.getUserById(randomUUID())))).toBe('E_SOURCE_UNAVAILABLE');
      expect(code(await outcome(engine.getUserByEmail(`${randomUUID()}@example.test`)))).toBe(
        'E_SOURCE_UNAVAILABLE',
      );
    }
  });

  it('after the first late answers the others do not wait any more', async () => {
    await engine.getUserById(world.user.user_id);
    end = await begin();
    for (let attempt = 0; attempt < 4; attempt += 1) await outcome(engine.getUserById(randomUUID()));
    const ended = await Promise.all(
      Array.from({ length: 200 }, () => timed(() => engine.isTokenBlacklisted(randomUUID()))),
    );
    expect(new Set(ended.map(code))).toEqual(new Set(['E_SOURCE_UNAVAILABLE']));
    const median = ended.map(({ ms }) => ms).sort((a, b) => a - b)[100] as number;
    expect(median).toBeLessThan(SOURCE_DEADLINE_MS / 2);
  });

  it('service resumes within 2 s, by itself', async () => {
    await engine.getUserById(world.user.user_id);
    end = await begin();
    for (let attempt = 0; attempt < 4; attempt += 1) await outcome(engine.getUserById(randomUUID()));
    await recover();
    await until(
      'the source answers',
      async () => {
        const ended = await outcome(engine.isTokenBlacklisted(randomUUID()));
        return 'value' in ended;
      },
      RECOVERY_MS,
    );
    expect(await complaints(engine, world, { source: 'up', withinMs: IN_TIME_MS })).toEqual([]);
  });

  it('a revocation that could not be written still holds for this process, and for others at once', async () => {
    const other = start();
    for (const one of [engine, other]) {
      await one.getCachedTokenBlacklistStatus(randomUUID());
      await until('the store is in service', () => one.isRedisAvailable());
    }
    end = await begin();
    const jti = randomUUID();
    const row = { jti, userId: world.user.user_id, tokenType: 'access', reason: 'logout' };
    const ended = await outcome(engine.blacklistToken({ ...row, expiresAt: Date.now() + 60_000 }));
    expect(code(ended)).toBe('E_SOURCE_UNAVAILABLE');
    expect(await engine.isTokenBlacklisted(jti)).toBe(true);
    expect(await other.isTokenBlacklisted(jti)).toBe(true);
  });

  describe('and the store with it', () => {
    beforeEach(async () => {
      expect(await complaints(engine, world, { source: 'up', withinMs: 5_000 })).toEqual([]);
      await until('the store is in service', () => engine.isRedisAvailable());
      await server.pause();
      end = await begin();
    });
    afterEach(() => server.resume());

    it('every function answers in time: unknown, queued or an error, never a wrong answer', async () => {
      expect(await complaints(engine, world, { source: 'down', withinMs: IN_TIME_MS })).toEqual([]);
      for (const row of functions.filter(({ asks }) => asks === 'source')) {
        const fresh: World = { ...world, clean: randomUUID() };
        const ended = await timed(() => row.call(engine, fresh));
        expect(complaint(row, fresh, ended, { source: 'down', withinMs: IN_TIME_MS })).toBeUndefined();
      }
      expect(code(await outcome(engine.isTokenBlacklisted(randomUUID())))).toBe('E_SOURCE_UNAVAILABLE');
      expect(code(await outcome(engine.getUserById(world.user.user_id)))).toBe('E_SOURCE_UNAVAILABLE');
      expect(await engine.getHealth()).toMatchObject({ status: 'down' });
    });

    it('a deadline of the call is kept by every function', async () => {
      const deadlineMs = 120;
      const found = await complaints(calling(engine, { deadlineMs }), world, {
        source: 'down',
        // `blacklistToken` is two calls in the table.
        withinMs: 2 * deadlineMs + 200,
        impatient: true,
      });
      expect(found).toEqual([]);
    });

    it('both come back, and queued invalidations are applied', async () => {
      const marked = randomUUID();
      await outcome(engine.isTokenBlacklisted(randomUUID()));
      await until('the store is out of service', () => !engine.isRedisAvailable(), 1_000);
      const done = await engine.invalidateTokenCache(marked);
      expect(done).toEqual({ acknowledged: false, queued: true });
      await recover();
      await server.resume();
      await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
      await until('everything queued was applied', () => pending(engine) === 0, RECOVERY_MS);
      const other = start();
      expect(await other.isTokenBlacklisted(marked)).toBe(true);
      await until(
        'the source answers',
        async () => 'value' in (await outcome(engine.isTokenBlacklisted(randomUUID()))),
        RECOVERY_MS,
      );
      expect(await complaints(engine, world, { source: 'up', withinMs: IN_TIME_MS })).toEqual([]);
    });
  });
});

it('getHealth tells whether the database answers, without hanging with it', async () => {
  await engine.getUserById(world.user.user_id);
  expect((await engine.getHealth()).source.status).toBe('healthy');
  await databases.server.pause();
  try {
    for (let attempt = 0; attempt < 4; attempt += 1) await outcome(engine.getUserById(randomUUID()));
    const health = await timed(() => engine.getHealth());
    expect(health).toMatchObject({ value: { source: { status: 'down' } } });
    expect(health.ms).toBeLessThan(SOURCE_DEADLINE_MS / 2);
  } finally {
    await databases.server.resume();
  }
});

it('a restart of Postgres between two calls is not noticed by the second', async () => {
  for (let round = 0; round < rounds(3, 1); round += 1) {
    await Promise.all(Array.from({ length: 8 }, () => engine.isTokenBlacklisted(randomUUID())));
    await databases.server.restart();
    const ended = await Promise.all(
      Array.from({ length: 8 }, () => outcome(engine.isTokenBlacklisted(randomUUID()))),
    );
    expect(ended).toEqual(ended.map(() => ({ value: false })));
  }
});
