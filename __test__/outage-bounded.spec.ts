/**
 * Issue 2, "outage", for near copies that are served without asking (`bounded`): they lean on announcements, so they
 * must not be used once announcements may be missing. Not the lateness that the mode allows while all is well.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases, type UserRow } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { RECOVERY_MS, reaching } from './support/outage.js';
import { claimsOf, signed, verified } from './support/tokens.js';

/** Long: a test that ends sooner has not waited for the age to pass. */
const MAX_AGE_MS = 60_000;

/** A subscription that hears nothing for 1.5 s is unhealthy; the rest is room for a busy machine. */
const SILENCE_MS = 1_500 + 1_500;

let databases: Databases;
let database: Database;
let server: Server;
let proxy: FaultProxy;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  server = await startValkey();
  proxy = await startProxy({ port: server.port });
});
afterAll(async () => {
  await proxy.stop();
  await server.stop();
  await databases[Symbol.asyncDispose]();
});

let engines: Engines;
let near: Engine;
let other: Engine;
let user: UserRow;
let token: string;
beforeEach(async () => {
  engines = new Engines();
  const bounded = { mode: 'bounded', maxAgeMs: MAX_AGE_MS } as const;
  near = engines.start(
    { databaseUrl: database.url, ...reaching(proxy) },
    {
      near: { user_basic: bounded, jwt_payload: bounded },
    },
  );
  other = engines.start({ databaseUrl: database.url, cacheDeadlineMs: 2_000 }, reaching(server));
  user = await database.addUser();
  token = signed(claimsOf(user.user_id));
  await near.getUserById(user.user_id);
  await hears();
  await until('the user is served without asking', async () => {
    await near.getUserById(user.user_id);
    await near.verifyTokenCached(token, verified);
    const { roundTrips } = near.getMetrics().store;
    await near.getUserById(user.user_id);
    await near.verifyTokenCached(token, verified);
    return near.getMetrics().store.roundTrips === roundTrips;
  });
});
afterEach(async () => {
  await proxy.reset();
  await engines[Symbol.asyncDispose]();
});

const hears = () =>
  until('the subscription is healthy', async () => {
    const { store } = await near.getHealth();
    return near.isRedisAvailable() && store.subscription === 'healthy';
  });

/** Changes the user and voids it everywhere, by the other engine. */
async function change(name: string): Promise<void> {
  await database.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [user.user_id, name]);
  expect(await other.invalidateUserCache(user.user_id)).toMatchObject({ acknowledged: true });
  expect(await other.invalidateAllUserTokens(user.user_id)).toMatchObject({ acknowledged: true });
}

const name = async () => (await near.getUserById(user.user_id))?.first_name;

const cuts = [
  { name: 'a network that swallows everything', begin: () => proxy.set({ blackhole: true }) },
  { name: 'reset connections', begin: () => proxy.set({ refuseConnections: true }) },
  { name: 'replies that come 10 s late', begin: () => proxy.set({ delayMs: 10_000 }) },
];

describe.each(cuts)('cut off by $name', ({ begin }) => {
  it('gives no old answer once announcements may be missing, and none after its return', async () => {
    await begin();
    await until(
      'the silence is noticed',
      async () => !near.isRedisAvailable() || (await near.getHealth()).store.subscription !== 'healthy',
      SILENCE_MS,
    );
    await change('Grace');
    expect(await name()).toBe('Grace');
    expect(await near.getCachedJWTPayload(token)).toBeNull();
    await proxy.reset();
    const end = Date.now() + RECOVERY_MS;
    while (Date.now() < end) {
      expect(await name()).toBe('Grace');
      expect(await near.getCachedJWTPayload(token)).toBeNull();
      await sleep(5);
    }
    await hears();
    expect(await name()).toBe('Grace');
  });
});

it('a subscription that was cut alone is made anew, and what was announced meanwhile is not missed', async () => {
  for (let round = 0; round < 3; round += 1) {
    await server.command('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await change(`round-${round}`);
    await hears();
    await until('the new name is there', async () => (await name()) === `round-${round}`, RECOVERY_MS);
  }
});

it('while all is well an invalidation elsewhere is heard long before the age has passed', async () => {
  await change('Grace');
  await until('the new name is there', async () => (await name()) === 'Grace', RECOVERY_MS);
  expect(await near.getCachedJWTPayload(token)).toBeNull();
});
