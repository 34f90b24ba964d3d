/**
 * Issue 2, "outage": a server that is there but refuses, forgets or holds something else than expected. Real Valkey
 * and Redis, brought into each state by their own commands.
 */
import { createHash, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, type ServerKind, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { complaints, newWorld, timed, type World } from './support/functions.js';
import {
  answered,
  cachedAnswers,
  configured,
  FIRST_CALL_MS,
  pending,
  RECOVERY_MS,
  reaching,
} from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

const both: readonly ServerKind[] = ['valkey', 'redis'];
const kinds = both.slice(0, rounds(2, 1));

/** A port on which nothing listens. */
const DEAD_PORT = 1;

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
});
afterAll(() => databases[Symbol.asyncDispose]());

/** The server always answers here: a busy machine must not look like an outage. */
const patient = () => ({ databaseUrl: database.url, cacheDeadlineMs: 2_000 });

describe.each(kinds)('%s', (kind) => {
  let server: Server;
  let engines: Engines;
  let near: Engine;
  let other: Engine;
  let world: World;

  beforeAll(async () => {
    server = await startValkey({ kind });
  });
  afterAll(() => server.stop());

  beforeEach(async () => {
    engines = new Engines();
    near = engines.start(patient(), reaching(server));
    other = engines.start(patient(), reaching(server));
    world = await newWorld(database);
    for (const engine of [near, other]) {
      await engine.isTokenBlacklisted(randomUUID());
      await until('the store is in service', () => engine.isRedisAvailable());
    }
  });
  afterEach(async () => {
    await engines[Symbol.asyncDispose]();
    await server.command('FLUSHALL');
  });

  const truthful = async (engine: Engine = near) =>
    expect(await complaints(engine, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);

  async function rename(name: string): Promise<void> {
    await database.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [world.user.user_id, name]);
    world.user.first_name = name;
  }

  const refusals = [
    {
      name: 'READONLY: it became the replica of a dead master',
      begin: async () => {
        await server.command('REPLICAOF', '127.0.0.1', DEAD_PORT);
        return async () => {
          await server.command('REPLICAOF', 'NO', 'ONE');
        };
      },
    },
    {
      name: 'NOREPLICAS: it wants more replicas than it has',
      begin: () => configured(server, 'min-replicas-to-write', '1'),
    },
    {
      name: 'OOM: it is full and evicts nothing',
      begin: () => configured(server, 'maxmemory', '1'),
    },
  ];

  describe.each(refusals)('$name', ({ begin }) => {
    let end: () => Promise<void>;
    afterEach(() => end());

    it('every function answers in time, with the truth, before, during and after', async () => {
      await truthful();
      end = await begin();
      for (let round = 0; round < rounds(3, 2); round += 1) await truthful();
      await end();
      await until('the store is in service', () => near.isRedisAvailable(), RECOVERY_MS);
      await until('everything queued was applied', () => pending(near) === 0, RECOVERY_MS);
      await truthful();
      await answered(near, world.user.user_id);
    });

    it('an invalidation is in effect here at once, and everywhere as soon as none is pending', async () => {
      const marked = randomUUID();
      const token = signed(claimsOf(world.user.user_id));
      for (const engine of [near, other]) {
        await engine.getUserById(world.user.user_id);
        await engine.verifyTokenCached(token, verified);
        expect(await engine.isTokenBlacklisted(marked)).toBe(false);
      }
      end = await begin();
      await rename('Grace');
      const done = await Promise.all([
        near.invalidateUserCache(world.user.user_id),
        near.invalidateTokenCache(marked),
        near.invalidateAllUserTokens(world.user.user_id),
      ]);
      const inEffect = async (engine: Engine) => {
        expect((await engine.getUserById(world.user.user_id))?.first_name).toBe('Grace');
        expect(await engine.isTokenBlacklisted(marked)).toBe(true);
        expect(await engine.getCachedJWTPayload(token)).toBeNull();
      };
      await inEffect(near);
      // What was acknowledged holds everywhere although the server still refuses.
      const [user, mark, generation] = done;
      if (user.acknowledged) expect((await other.getUserById(world.user.user_id))?.first_name).toBe('Grace');
      if (mark.acknowledged) expect(await other.isTokenBlacklisted(marked)).toBe(true);
      if (generation.acknowledged) expect(await other.getCachedJWTPayload(token)).toBeNull();
      await end();
      await until('everything queued was applied', () => pending(near) === 0, RECOVERY_MS);
      // An engine that lost the store itself knows a mark without a row only after it found the store again.
      await answered(other, world.deactivated.user_id);
      await inEffect(other);
      await inEffect(near);
    });
  });

  it('OOM: removing still works, so a user is invalidated everywhere', async () => {
    await other.getUserById(world.user.user_id);
    const end = await configured(server, 'maxmemory', '1');
    try {
      await rename('Grace');
      const done = await near.invalidateUserCache(world.user.user_id);
      expect(done).toEqual({ acknowledged: true, queued: false });
      expect((await other.getUserById(world.user.user_id))?.first_name).toBe('Grace');
      expect(near.isRedisAvailable()).toBe(true);
    } finally {
      await end();
    }
  });

  it('NOSCRIPT: scripts that are forgotten between calls are sent again, and fills go on', async () => {
    const engine = engines.start(patient(), reaching(server));
    await engine.isTokenBlacklisted(randomUUID());
    for (let round = 0; round < rounds(20, 5); round += 1) {
      const { user_id } = await database.addUser();
      await server.command('SCRIPT', 'FLUSH');
      expect((await engine.getUserById(user_id))?.user_id).toBe(user_id);
      const { fills, source } = engine.getMetrics().namespaces.user_basic;
      expect({ fills, source }).toEqual({ fills: round + 1, source: round + 1 });
      await engine.getUserById(user_id);
      expect(engine.getMetrics().namespaces.user_basic.source).toBe(round + 1);
    }
    expect(engine.getMetrics().store.errors).toBe(0);
    await server.command('SCRIPT', 'FLUSH');
    await truthful();
  });

  it('FLUSHALL: what was cached is loaded again, and what the source says stays true', async () => {
    for (let round = 0; round < rounds(5, 2); round += 1) {
      await truthful();
      await server.command('FLUSHALL');
      expect(await other.isTokenBlacklisted(world.revoked)).toBe(true);
      await server.command('FLUSHALL');
      await truthful();
    }
    expect(near.isRedisAvailable()).toBe(true);
  });

  describe('something else under a key', () => {
    const sha = (text: string): string => createHash('sha256').update(text).digest('hex');

    const foreign: { name: string; put: (key: string) => Promise<unknown> }[] = [
      { name: 'a list', put: (key) => server.command('LPUSH', key, 'x') },
      { name: 'a hash', put: (key) => server.command('HSET', key, 'x', 'y') },
      { name: 'an empty text', put: (key) => server.command('SET', key, '') },
      { name: 'the text false', put: (key) => server.command('SET', key, 'false') },
      { name: 'the text null', put: (key) => server.command('SET', key, 'null') },
      {
        name: 'binary bytes',
        put: (key) => server.command('SET', key, Uint8Array.from([0, 255, 13, 10, 0])),
      },
      {
        name: 'half an entry of ours',
        put: async (key) => {
          await other.getUserById(world.user.user_id);
          const whole = String(await server.command('GET', `user_basic:${world.user.user_id}`));
          await server.command('SET', key, whole.slice(0, 40));
        },
      },
      {
        name: 'the entry of somebody else',
        put: async (key) => {
          const stranger = await database.addUser();
          await other.getUserById(stranger.user_id);
          await server.command('COPY', `user_basic:${stranger.user_id}`, key, 'REPLACE');
        },
      },
    ];

    it.each(foreign)('$name: every function answers in time, with the truth', async ({ put }) => {
      const keys = [
        `token_bl:${world.revoked}`,
        `token_bl:${world.clean}`,
        `user_basic:${world.user.user_id}`,
        `user_basic:${world.deactivated.user_id}`,
        `user_email:${sha(world.user.email)}`,
        `jwt_payload:${world.claims.jti}`,
        `jwt_user:${world.user.user_id}`,
      ];
      for (const key of keys) {
        await server.command('DEL', key);
        await put(key);
        await truthful();
      }
      for (const key of keys) {
        await server.command('DEL', key);
        await put(key);
      }
      await truthful();
      expect(near.isRedisAvailable()).toBe(true);
    });

    const subjects = [
      {
        name: 'user_basic',
        key: () => `user_basic:${world.user.user_id}`,
        read: (engine: Engine) => engine.getUserById(world.user.user_id),
        namespace: 'user_basic',
      },
      {
        name: 'token_bl',
        key: () => `token_bl:${world.clean}`,
        read: (engine: Engine) => engine.isTokenBlacklisted(world.clean),
        namespace: 'token_bl',
      },
      {
        name: 'jwt_payload',
        key: () => `jwt_payload:${world.claims.jti}`,
        read: (engine: Engine) => engine.verifyTokenCached(world.token, verified),
        namespace: 'jwt_payload',
      },
      {
        name: 'jwt_user',
        key: () => `jwt_user:${world.user.user_id}`,
        read: (engine: Engine) => engine.verifyTokenCached(world.token, verified),
        namespace: 'jwt_payload',
      },
    ] as const;

    it.each(subjects)('a list under $name does not slow the reader down and is replaced', async (subject) => {
      await server.command('DEL', subject.key());
      await server.command('LPUSH', subject.key(), 'x');
      const first = await timed(() => subject.read(near));
      expect(first).toHaveProperty('value');
      expect(first.ms).toBeLessThan(FIRST_CALL_MS);
      await until(
        'the answer comes from the cache',
        async () => {
          const before = cachedAnswers(near, subject.namespace);
          await subject.read(near);
          return cachedAnswers(near, subject.namespace) > before;
        },
        3_000,
      );
      expect(await server.command('TYPE', subject.key())).toBe('string');
    });

    it('lists under many keys that are read together do not slow the readers down', async () => {
      const users = await Promise.all(Array.from({ length: 20 }, () => database.addUser()));
      for (const { user_id } of users) await server.command('LPUSH', `user_basic:${user_id}`, 'x');
      const all = await Promise.all(users.map(({ user_id }) => timed(() => near.getUserById(user_id))));
      expect(
        all.map((one) => ('value' in one ? (one.value as { user_id: string }).user_id : one.error)),
      ).toEqual(users.map(({ user_id }) => user_id));
      expect(Math.max(...all.map(({ ms }) => ms))).toBeLessThan(FIRST_CALL_MS * 2);
    });
  });
});
