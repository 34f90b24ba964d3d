/**
 * One load: 1,000 callers in four processes ask for a cold key at once, and the source is asked once. Counted twice:
 * by the engines, and by Postgres itself, in a view that nobody reads uncounted. When the process that loads is killed
 * in the middle, everybody else still gets the answer, for at most one more statement per process.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { until } from './support/engines.js';
import { Peer } from './support/processes.js';
import { rounds } from './support/rounds.js';
import { SlowSource, slowSchema } from './support/slow-source.js';
import { claimsOf, signed } from './support/tokens.js';

const PROCESSES = 4;
const CALLERS = 250;

let databases: Databases;
let database: Database;
let source: SlowSource;
let store: Server;
let peers: Peer[];

interface Answered {
  readonly got: Readonly<Record<string, number>>;
  readonly statements: number;
  readonly verified: number;
}

/** What is asked, of which table, and the answer everybody must get. */
interface Question {
  readonly call: 'getUserById' | 'isTokenBlacklisted' | 'verifyTokenCached';
  readonly argument: string;
  readonly answer: (text: string) => boolean;
  readonly payload?: object;
  readonly verifyMs?: number;
}

async function startPeers(): Promise<void> {
  const options = {
    ...{ redisHost: store.host, redisPort: store.port, databaseUrl: database.url },
    // Busy cores shall not look like an outage.
    ...{ ...slowSchema, cacheDeadlineMs: 2_000, cacheSourceDeadlineMs: 10_000 },
  };
  peers = Array.from({ length: PROCESSES }, () => new Peer('one-load-worker.mjs', { options }));
  await Promise.all(peers.map((peer) => peer.next('ready')));
}

const endPeers = () => Promise.all(peers.map((peer) => peer.kill()));

beforeAll(async () => {
  [databases, store] = await Promise.all([Databases.start(), startValkey()]);
  database = await databases.create();
  source = await SlowSource.in(database);
});

afterAll(async () => {
  await databases?.[Symbol.asyncDispose]();
  await store?.stop();
});

const questions = {
  users: async (): Promise<Question> => {
    const { user_id } = await database.addUser();
    const answer = (text: string) => JSON.parse(text).user_id === user_id;
    return { call: 'getUserById', argument: user_id, answer };
  },
  token_blacklist: async (): Promise<Question> => {
    const jti = randomUUID();
    const revoked = Math.random() < 0.5;
    if (revoked) await database.revoke(jti);
    return { call: 'isTokenBlacklisted', argument: jti, answer: (text) => text === String(revoked) };
  },
};

function tokenQuestion(): Question {
  const payload = claimsOf(randomUUID());
  const answer = (text: string) => JSON.parse(text).jti === payload.jti;
  return { call: 'verifyTokenCached', argument: signed(payload), answer, payload, verifyMs: 200 };
}

/** All callers of all processes at once; `answered` resolves with what each process saw, or its end. */
function ask({ answer: _, ...question }: Question): Promise<PromiseSettledResult<Answered>[]> {
  for (const peer of peers) peer.send({ kind: 'crowd', callers: CALLERS, ...question });
  const answered = peers.map(async (peer) => (await peer.next('answered')) as unknown as Answered);
  return Promise.allSettled(answered);
}

const fulfilled = (results: readonly PromiseSettledResult<Answered>[]): Answered[] =>
  results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

function expectAnswers(results: readonly Answered[], question: Question): void {
  for (const { got } of results) {
    expect(Object.keys(got).filter((text) => !question.answer(text))).toEqual([]);
    expect(sum(Object.values(got))).toBe(CALLERS);
  }
}

/** Which process is the first to say that it loads. */
const leader = () => Promise.race(peers.map((peer) => peer.next('leads').then(() => peer)));

describe('1,000 callers in four processes on a cold key', () => {
  beforeAll(startPeers);
  afterAll(endPeers);

  describe.each(['users', 'token_blacklist'] as const)('of %s', (table) => {
    it.each([{ slowMs: 200 }, { slowMs: 20 }, { slowMs: 0 }])(
      'are one statement of $slowMs ms',
      async ({ slowMs }) => {
        await source.pace(slowMs);
        for (let round = 0; round < rounds(20, 3); round += 1) {
          const question = await questions[table]();
          const before = await source.reads(table);
          const results = fulfilled(await ask(question));
          expect(results).toHaveLength(PROCESSES);
          expectAnswers(results, question);
          expect(sum(results.map(({ statements }) => statements))).toBe(1);
          expect((await source.reads(table)) - before).toBe(1);
        }
      },
    );
  });

  it('run verify once', async () => {
    for (let round = 0; round < rounds(10, 3); round += 1) {
      const question = tokenQuestion();
      const results = fulfilled(await ask(question));
      expect(results).toHaveLength(PROCESSES);
      expectAnswers(results, question);
      expect(sum(results.map(({ verified }) => verified))).toBe(1);
      expect(sum(results.map(({ statements }) => statements))).toBe(0);
    }
  });
});

describe('when the process that loads is killed in the middle', () => {
  const slowMs = 700;

  it.each(['users', 'token_blacklist'] as const)(
    'the others answer from %s, one statement each at most',
    async (table) => {
      for (let round = 0; round < rounds(3, 1); round += 1) {
        await startPeers();
        try {
          await source.pace(slowMs);
          const question = await questions[table]();
          const before = await source.reads(table);
          const asked = performance.now();
          const answered = ask(question);
          const leading = await leader();
          await until('its statement runs', async () => (await source.reads(table)) > before);
          await leading.kill();
          const results = fulfilled(await answered);
          const tookMs = performance.now() - asked;
          expect(results).toHaveLength(PROCESSES - 1);
          expectAnswers(results, question);
          for (const { statements } of results) expect(statements).toBeLessThanOrEqual(1);
          const reads = (await source.reads(table)) - before;
          expect(reads).toBe(1 + sum(results.map(({ statements }) => statements)));
          // One wait for the dead leader, its successor's load, and room for a busy machine.
          expect(tookMs).toBeLessThan(10_000);
        } finally {
          await endPeers();
        }
      }
    },
  );

  it('the others verify, once each at most', async () => {
    await startPeers();
    try {
      const question = { ...tokenQuestion(), verifyMs: slowMs };
      const answered = ask(question);
      await (await leader()).kill();
      const results = fulfilled(await answered);
      expect(results).toHaveLength(PROCESSES - 1);
      expectAnswers(results, question);
      for (const { verified } of results) expect(verified).toBeLessThanOrEqual(1);
      expect(sum(results.map(({ verified }) => verified))).toBeGreaterThan(0);
    } finally {
      await endPeers();
    }
  });
});
