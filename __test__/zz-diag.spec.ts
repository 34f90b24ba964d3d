/**
 * Issue 2, "outage": loads and invalidations that are on the wire at the very moment the store stops. What the stopped
 * server has received it still executes when it continues, in its own order. Not the resurrection suite: here the old
 * value travels in a socket buffer, not in another process.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases, type UserRow } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { answered, pending, RECOVERY_MS, reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

const USERS = 300;

let databases: Databases;
let database: Database;
let engines: Engines;
let server: Server;
let proxy: FaultProxy;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  engines = new Engines();
  server = await startValkey();
  proxy = await startProxy({ port: server.port });
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await proxy.stop();
  await server.stop();
  await databases[Symbol.asyncDispose]();
});

async function addUsers(count: number): Promise<UserRow[]> {
  const ids = Array.from({ length: count }, () => randomUUID());
  return database.query<UserRow>(
    `INSERT INTO users (user_id, email, first_name, last_name)
     SELECT id, id || '@example.test', 'old', 'x' FROM unnest($1::uuid[]) AS id RETURNING *`,
    [ids],
  );
}

const stops = [
  { name: 'SIGSTOP', begin: () => server.pause(), end: () => server.resume() },
  { name: 'late replies', begin: () => proxy.set({ delayMs: 10_000 }), end: () => proxy.reset() },
  { name: 'a swallowing network', begin: () => proxy.set({ blackhole: true }), end: () => proxy.reset() },
  { name: 'SIGKILL', begin: () => server.kill(), end: () => server.restart() },
];

describe.each(stops)('$name in the middle of many loads', ({ begin, end }) => {
  let near: Engine;
  let other: Engine;
  beforeAll(async () => {
    // Two workers: more orders in which replies, fills and invalidations can meet.
    near = engines.start({ databaseUrl: database.url, cacheWorkerThreads: 2 }, reaching(proxy));
    // A mark without a row is known to the store alone: this one must not give up on a busy machine.
    other = engines.start({ databaseUrl: database.url, cacheDeadlineMs: 50 }, reaching(server));
    for (const engine of [near, other]) {
      await engine.isTokenBlacklisted(randomUUID());
      await until('the store is in service', () => engine.isRedisAvailable());
    }
  });

  it('leaves nothing old behind once the invalidations were applied', async () => {
    for (let round = 0; round < rounds(4, 1); round += 1) {
      const users = await addUsers(USERS);
      const tokens = users.map((user) => signed(claimsOf(user.user_id)));
      // Reads and fills of every kind are under way, begun over the whole time in which the store stops.
      const reads = users.map(async ({ user_id }, index) => {
        await sleep(index / 10);
        const token = tokens[index] as string;
        await Promise.all([
          near.getUserById(user_id),
          near.isTokenBlacklisted(`${user_id}-${round}`),
          near.verifyTokenCached(token, verified),
          index % 3 === 0 ? near.cacheTokenBlacklistStatus(`${user_id}-${round}`, false) : undefined,
        ]);
      });
      await sleep(8);
      await begin();
      await Promise.all(reads);
      await until('the store is out of service', () => !near.isRedisAvailable(), 1_000);
      await database.query("UPDATE users SET first_name = 'new' WHERE user_id = ANY($1)", [
        users.map((user) => user.user_id),
      ]);
      const done = await Promise.all(
        users.flatMap(({ user_id }) => [
          near.invalidateUserCache(user_id),
          near.invalidateTokenCache(`${user_id}-${round}`),
          near.invalidateAllUserTokens(user_id),
        ]),
      );
      expect(done.every(({ acknowledged, queued }) => acknowledged || queued)).toBe(true);
      await end();
      await until('the store is in service', () => near.isRedisAvailable(), RECOVERY_MS);
      await until('everything queued was applied', () => pending(near) === 0, RECOVERY_MS);
      const stranger = await database.addUser();
      for (const engine of [other, near]) {
        // An engine that lost the store itself knows a mark without a row only after it found the store again.
        await answered(engine, stranger.user_id);
        const old = await Promise.all(
          users.map(async ({ user_id }, index) => {
            const wrong: string[] = [];
            if ((await engine.getUserById(user_id))?.first_name !== 'new') wrong.push('user');
            if (!(await engine.isTokenBlacklisted(`${user_id}-${round}`))) wrong.push('revocation');
            if ((await engine.getCachedJWTPayload(tokens[index] as string)) !== null) wrong.push('payload');
            return wrong;
          }),
        );
        let missing = 0;
        for (const { user_id } of users) if ((await server.command('GET', `token_bl:${user_id}-${round}`)) === null) missing += 1;
        console.log('DIAG', engine === other ? 'other' : 'near', 'wrong', old.flat().length, 'missing in the store', missing, JSON.stringify(engine.getMetrics().store));

      }
    }
  });
});
