/**
 * Issue 2, "outage": a store whose replies belong to other requests. Whatever it says, nobody gets another user's data,
 * a wrong verdict on a token or the payload of another token, and the engine finds its way back.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases, type UserRow } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { type Lie, LyingProxy } from './support/lying-proxy.js';
import { answered, RECOVERY_MS, reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { claimsOf, signed, verified } from './support/tokens.js';

const SUBJECTS = 40;
const AT_ONCE = 25;

/** `CACHE_FLIGHT_WAIT_MS` is 1,000: a lease that a lie left behind may be waited for; the rest is room. */
const IN_TIME_MS = 1_000 + 1_000;

interface Subject {
  readonly user: UserRow;
  readonly token: string;
  readonly jti: string;
  readonly revoked: boolean;
}

const lies: readonly { lie: Lie; every: number }[] = [
  { lie: 'exchange', every: 5 },
  { lie: 'repeat', every: 11 },
  { lie: 'lose', every: 11 },
  // One single lie in a long stream: everything after it is out of step.
  { lie: 'repeat', every: 40 },
  { lie: 'lose', every: 40 },
];

const nearModes: readonly { name: string; options: EngineOptions }[] = [
  { name: 'validated near copies', options: {} },
  {
    name: 'no near copies',
    options: {
      near: { user_basic: { mode: 'off' }, jwt_payload: { mode: 'off' }, token_bl: { mode: 'off' } },
    },
  },
];

let databases: Databases;
let database: Database;
let server: Server;
let subjects: Subject[];
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
  server = await startValkey();
  subjects = [];
  for (let index = 0; index < SUBJECTS; index += 1) {
    const user = await database.addUser({ first_name: `name-${index}` });
    const claims = claimsOf(user.user_id);
    const revoked = index % 2 === 0;
    if (revoked) await database.revoke(claims.jti);
    subjects.push({ user, token: signed(claims), jti: claims.jti, revoked });
  }
});
afterAll(async () => {
  await server.stop();
  await databases[Symbol.asyncDispose]();
});

/** Each asks about one subject and tells what was wrong with the answer. */
const questions: readonly ((engine: Engine, subject: Subject) => Promise<string | undefined>)[] = [
  async (engine, { user }) => {
    const got = await engine.getUserById(user.user_id);
    return got?.user_id === user.user_id && got.first_name === user.first_name ? undefined : 'a wrong user';
  },
  async (engine, { user }) => {
    const got = await engine.getUserByEmail(user.email);
    return got?.user_id === user.user_id ? undefined : 'a wrong user for an address';
  },
  async (engine, { user }) => {
    const got = await engine.getCachedUserBasic(user.user_id);
    return got === null || got.user_id === user.user_id ? undefined : 'a wrong cached user';
  },
  async (engine, { jti, revoked }) =>
    (await engine.isTokenBlacklisted(jti)) === revoked ? undefined : 'a wrong verdict',
  async (engine, { jti, revoked }) =>
    [revoked, null].includes(await engine.getCachedTokenBlacklistStatus(jti))
      ? undefined
      : 'a wrong cached verdict',
  async (engine, { token, jti }) =>
    (await engine.verifyTokenCached(token, verified)).jti === jti ? undefined : 'a wrong payload',
  async (engine, { token, jti }) =>
    ((await engine.getCachedJWTPayload(token))?.jti ?? jti) === jti ? undefined : 'a wrong cached payload',
];

describe.each(nearModes)('with $name', ({ options }) => {
  it.each(lies)(
    '$lie one reply in $every: no answer is wrong, and the engine recovers',
    async ({ lie, every }) => {
      await using engines = new Engines();
      await using proxy = await LyingProxy.start(server.port);
      const engine = engines.start({ databaseUrl: database.url }, reaching(proxy), options);
      const wrong: string[] = [];
      const total = rounds(6_000, 800);
      let asked = 0;
      const ask = async () => {
        while (asked < total) {
          // Strides without a common factor: all pairs of question and subject meet, in ever new company.
          const question = questions[asked % questions.length] as (typeof questions)[number];
          const subject = subjects[(asked * 13) % SUBJECTS] as Subject;
          asked += 1;
          if (asked === total >> 3) proxy.lie(lie, every);
          // Some entries vanish all the time, so that leases and fills are among the replies too.
          if (asked % 50 === 0) await server.command('DEL', `user_basic:${subject.user.user_id}`);
          const start = performance.now();
          const said = await question(engine, subject).catch(
            (error: unknown) => `rejected: ${String(error)}`,
          );
          if (said !== undefined) wrong.push(`${said} (${subject.user.first_name})`);
          const ms = performance.now() - start;
          if (ms > IN_TIME_MS) wrong.push(`question ${questions.indexOf(question)} took ${ms.toFixed(0)} ms`);
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, ask));
      expect(wrong).toEqual([]);
      expect(proxy.lies).toBeGreaterThan(0);
      proxy.relent();
      await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
      await answered(engine, (subjects[0] as Subject).user.user_id);
      for (const subject of subjects) {
        for (const question of questions) expect(await question(engine, subject)).toBeUndefined();
      }
    },
  );
});
