/**
 * Issue 2, "outage": what a store costs that does not answer. A store that was never there, what its absence adds to
 * an answer of the source, and a process that ends by itself although it never came.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { complaints, newWorld, timed } from './support/functions.js';
import { answered, FIRST_CALL_MS, pending, RECOVERY_MS, reaching } from './support/outage.js';
import { rounds } from './support/rounds.js';

/** The promise: so much is added to an answer of the source once the breaker is open. */
const ADDED_MS = 1;

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

interface Absence {
  readonly name: string;
  readonly options: () => EngineOptions;
  begin(): Promise<unknown>;
  end(): Promise<unknown>;
}

const absences: readonly Absence[] = [
  {
    name: 'nothing listens on its port',
    options: () => reaching(server),
    begin: () => server.kill(),
    end: () => server.restart(),
  },
  {
    name: 'stopped with SIGSTOP',
    options: () => reaching(server),
    begin: () => server.pause(),
    end: () => server.resume(),
  },
  {
    name: 'behind a network that swallows everything',
    options: () => reaching(proxy),
    begin: () => proxy.set({ blackhole: true }),
    end: () => proxy.reset(),
  },
  {
    name: 'answering with garbage',
    options: () => reaching(proxy),
    begin: () => proxy.set({ garbageReplies: true }),
    end: () => proxy.reset(),
  },
];

describe.each(absences)('a store that is $name', ({ options, begin, end }) => {
  it('was never there: the first call does not wait for it, and it joins in 2 s after it came', async () => {
    await using engines = new Engines();
    const world = await newWorld(database);
    await begin();
    let ended = false;
    try {
      const engine = engines.start({ databaseUrl: database.url }, options());
      const first = await timed(() => engine.isTokenBlacklisted(world.revoked));
      expect(first).toMatchObject({ value: true });
      expect.soft(first.ms).toBeLessThan(FIRST_CALL_MS);
      expect(await complaints(engine, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);
      expect(engine.isRedisAvailable()).toBe(false);
      expect(pending(engine)).toBeGreaterThan(0);
      await end();
      ended = true;
      await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
      expect(pending(engine)).toBe(0);
      await answered(engine, world.user.user_id);
    } finally {
      if (!ended) await end();
    }
  });

  it('adds less than 1 ms to an answer of the source once the breaker is open', async () => {
    await using engines = new Engines();
    const source = { databaseUrl: database.url };
    const without = engines.start(source, { cacheStore: 'none' });
    const lost = engines.start(source, options());
    await answered(lost, (await newWorld(database)).user.user_id);
    await begin();
    try {
      const read = (engine: Engine) => timed(() => engine.isTokenBlacklisted(randomUUID()));
      for (let warm = 0; warm < 50; warm += 1) await Promise.all([read(lost), read(without)]);
      expect(lost.isRedisAvailable()).toBe(false);
      const times: { lost: number[]; without: number[] } = { lost: [], without: [] };
      for (let index = 0; index < rounds(600, 300); index += 1) {
        // One after the other and in turns, so that both see the same machine.
        times.lost.push((await read(lost)).ms);
        times.without.push((await read(without)).ms);
      }
      const median = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1] as number;
      expect(median(times.lost) - median(times.without)).toBeLessThan(ADDED_MS);
    } finally {
      await end();
    }
  });
});

it('refuses an invalidation it can neither send nor queue, and applies all it queued before it trusts the store', async () => {
  await using engines = new Engines();
  const engine = engines.start({ databaseUrl: database.url }, reaching(server));
  const other = engines.start({ databaseUrl: database.url, cacheDeadlineMs: 2_000 }, reaching(server));
  await answered(other, (await newWorld(database)).user.user_id);
  await server.pause();
  let paused = true;
  try {
    await engine.isTokenBlacklisted('a token');
    const QUEUE = 100_000;
    const CHUNK = 5_000;
    for (let from = 0; from < QUEUE; from += CHUNK) {
      const tokens = Array.from({ length: CHUNK }, (_, index) => `queued-${from + index}`);
      await Promise.all(tokens.map((token) => engine.invalidateTokenCache(token)));
    }
    expect(pending(engine)).toBe(QUEUE);
    await expect(engine.invalidateTokenCache('one more')).rejects.toMatchObject({
      code: 'E_STORE_UNAVAILABLE',
    });
    await expect(engine.invalidateTokenCache('queued-0')).resolves.toMatchObject({ queued: true });
    await server.resume();
    paused = false;
    await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
    expect(pending(engine)).toBe(0);
    for (const index of [0, 1, QUEUE >> 1, QUEUE - 1]) {
      expect(await other.isTokenBlacklisted(`queued-${index}`)).toBe(true);
    }
  } finally {
    if (paused) await server.resume();
    await server.command('FLUSHALL');
  }
});

describe('a process that has nothing to do any more ends by itself', () => {
  const program = join(__dirname, 'support', 'outage-process.mjs');

  /** Output and exit code of a process, and how long after its last output it ended. */
  async function run(
    options: EngineOptions | null,
    env: Record<string, string> = {},
  ): Promise<{ endings: string[]; code: number | null; lingeredMs: number }> {
    const child = spawn(process.execPath, [program, JSON.stringify(options)], {
      env: { PATH: process.env['PATH'], ...env },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const limit = setTimeout(() => child.kill('SIGKILL'), 15_000);
    let output = '';
    let last = performance.now();
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
      last = performance.now();
    });
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    clearTimeout(limit);
    return { endings: JSON.parse(output) as string[], code, lingeredMs: performance.now() - last };
  }

  const dead = { host: '127.0.0.1', port: 1 };

  it.each(absences)('while the store is $name', async ({ options, begin, end }) => {
    await begin();
    try {
      const { endings, code, lingeredMs } = await run({ databaseUrl: database.url, ...options() });
      expect(endings).toEqual(['false', 'null', 'queued true']);
      expect(code).toBe(0);
      expect(lingeredMs).toBeLessThan(3_000);
    } finally {
      await end();
    }
  });

  it('while neither store nor Postgres can be reached', async () => {
    const databaseUrl = 'postgres://postgres@127.0.0.1:1/none';
    const { endings, code, lingeredMs } = await run({
      databaseUrl,
      ...reaching(dead),
      cacheSourceDeadlineMs: 300,
    });
    expect(endings).toEqual(['E_SOURCE_UNAVAILABLE', 'null', 'queued true']);
    expect(code).toBe(0);
    expect(lingeredMs).toBeLessThan(3_000);
  });

  it('while both are stopped with SIGSTOP in the middle of a call', async () => {
    await server.pause();
    await databases.server.pause();
    try {
      const limits = { cacheSourceDeadlineMs: 300 };
      const { endings, code, lingeredMs } = await run({
        databaseUrl: database.url,
        ...reaching(server),
        ...limits,
      });
      expect(endings).toEqual(['E_SOURCE_UNAVAILABLE', 'null', 'queued true']);
      expect(code).toBe(0);
      expect(lingeredMs).toBeLessThan(3_000);
    } finally {
      await databases.server.resume();
      await server.resume();
    }
  });

  it('with the default engine, configured by the environment', async () => {
    const { endings, code, lingeredMs } = await run(null, {
      REDIS_HOST: dead.host,
      REDIS_PORT: String(dead.port),
      DATABASE_URL: database.url,
    });
    expect(endings).toEqual(['false', 'null', 'queued true']);
    expect(code).toBe(0);
    expect(lingeredMs).toBeLessThan(3_000);
  });
});
