/**
 * Rate limits on servers that know or allow less: without MSETEX, for a user who may not say it, and for one who may say
 * only what ARCHITECTURE.md lists. Everybody is told the same, every key ends by itself, and what was admitted while the store
 * was away counts once. Real servers.
 */
import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, type ServerKind, startProxy, startValkey } from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { allowed, counted, LONG_SECONDS, limitKey } from './support/limiter-engines.js';
import { RECOVERY_MS, reaching } from './support/outage.js';

const LIMIT = 5;
const user = { redisUsername: 'app', redisPassword: 'secret' };

/** What ARCHITECTURE.md says that the store needs for rate limits, and nothing else. */
const LEAST =
  '+get +mget +getrange +set +del +eval +evalsha +publish +subscribe +ping +setrange +pttl +pexpire +pexpiretime'.split(
    ' ',
  );

interface Case {
  readonly name: string;
  readonly kind: ServerKind;
  /** Rights of the user. */
  readonly rights: readonly string[];
  /** Whether rows are written by MSETEX. */
  readonly writesRows: boolean;
}

const cases: readonly Case[] = [
  { name: 'Valkey 9', kind: 'valkey', rights: ['+@all'], writesRows: true },
  { name: 'Redis 7, which has no MSETEX', kind: 'redis', rights: ['+@all'], writesRows: false },
  { name: 'a user who may not say MSETEX', kind: 'valkey', rights: ['+@all', '-msetex'], writesRows: false },
  { name: 'the least rights, on Valkey 9', kind: 'valkey', rights: LEAST, writesRows: false },
  { name: 'the least rights, on Redis 7', kind: 'redis', rights: LEAST, writesRows: false },
];

/** How often the server carried a command out. */
async function calls(server: Server, command: string): Promise<number> {
  const stats = String(await server.command('INFO', 'commandstats'));
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

/** With a user of these rights. */
async function started({ kind, rights }: Case): Promise<Server> {
  const server = await startValkey({ kind });
  await server.command('ACL', 'SETUSER', 'app', 'on', '>secret', '~*', 'allchannels', ...rights);
  return server;
}

const check = (engine: Engine, whose: string) => engine.checkRateLimit('rights', whose, LIMIT, LONG_SECONDS);

it.concurrent.each(cases)('$name: the same answers, and every key ends', async (given) => {
  const server = await started(given);
  await using engines = new Engines();
  try {
    const engine = engines.start({ ...reaching(server), ...user });
    await counted(engine);
    const people = Array.from({ length: 40 }, () => randomUUID());
    for (let turn = 0; turn <= LIMIT; turn += 1) {
      const told = await Promise.all(people.map((whose) => check(engine, whose)));
      expect(told.filter(({ degraded }) => degraded)).toEqual([]);
      expect(allowed(told)).toBe(turn < LIMIT ? people.length : 0);
      for (const { remaining } of told) expect(remaining).toBe(Math.max(0, LIMIT - turn - 1));
    }
    expect((await calls(server, 'msetex')) > 0).toBe(given.writesRows);
    for (const whose of people) {
      const left = Number(await server.command('PTTL', limitKey('rights', whose)));
      expect(left).toBeGreaterThan((LONG_SECONDS - 60) * 1_000);
      expect(left).toBeLessThanOrEqual(LONG_SECONDS * 1_000);
    }
  } finally {
    await server.stop();
  }
});

it.concurrent.each(cases)(
  '$name: what was admitted without it counts once, when it is back',
  async (given) => {
    const server = await started(given);
    const proxy = await startProxy({ port: server.port });
    await using engines = new Engines();
    try {
      const engine = engines.start({ ...reaching(proxy), ...user });
      await counted(engine);
      const people = Array.from({ length: 20 }, () => randomUUID());
      await proxy.set({ refuseConnections: true });
      await until('the store is away', async () => (await check(engine, randomUUID())).degraded);
      for (let turn = 0; turn < 2; turn += 1) {
        const told = await Promise.all(people.map((whose) => check(engine, whose)));
        expect([allowed(told), told.every(({ degraded }) => degraded)]).toEqual([people.length, true]);
      }
      const everybody = await engine.checkGlobalRateLimit(1_000, LONG_SECONDS);
      expect(everybody).toMatchObject({ allowed: true, degraded: true });
      await proxy.reset();
      await counted(engine, RECOVERY_MS);
      for (const whose of people) {
        const look = await engine.peekRateLimit('rights', whose, LIMIT, LONG_SECONDS);
        expect(look).toMatchObject({ current: 2, degraded: false });
      }
      expect(await engine.peekRateLimit('global', '', 1_000, LONG_SECONDS)).toMatchObject({ current: 1 });
      const keys = (await server.command('KEYS', '*')) as string[];
      const notes = keys.map(String).filter((key) => key.includes(':told:'));
      expect(notes.length).toBeGreaterThan(people.length);
      for (const key of keys) expect(Number(await server.command('PTTL', key))).toBeGreaterThan(0);
    } finally {
      await proxy.stop();
      await server.stop();
    }
  },
);
