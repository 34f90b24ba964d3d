/**
 * What is repeated when a connection is lost and made again: nothing to the server that was there before, everything of
 * the last seconds to another one. Not about answers during the outage.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, startProxy, startValkey } from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { pending, RECOVERY_MS } from './support/outage.js';
import { rounds } from './support/rounds.js';
import { SwitchProxy } from './support/switch-proxy.js';

const REVOKED = rounds(4_000, 1_000);

const engines = new Engines();
let first: Server;
let second: Server;
let proxy: SwitchProxy;
let engine: Engine;
beforeAll(async () => {
  [first, second] = await Promise.all([startValkey(), startValkey()]);
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await proxy?.[Symbol.asyncDispose]();
  await Promise.all([first, second].map((server) => server?.stop()));
});

async function begin(port: number, refuse?: string[]) {
  await proxy?.[Symbol.asyncDispose]();
  const rules = refuse === undefined ? undefined : await startProxy({ port, refuse });
  proxy = await SwitchProxy.to(rules?.port ?? port);
  engine = engines.start({ redisHost: '127.0.0.1', redisPort: proxy.port, cacheDeadlineMs: 1_000 });
  await engine.getHealth();
  await engine.redisCacheService.get('contact');
  const tokens = Array.from({ length: REVOKED }, () => randomUUID());
  await Promise.all(tokens.map((token) => engine.invalidateTokenCache(token)));
  return { tokens, rules };
}

async function reconnected(switchTo: number, before = engine.getMetrics().store): Promise<number> {
  const { commands, breakerOpened: opened } = before;
  proxy.switchTo(switchTo);
  await engine.redisCacheService.get('notice');
  await until('the break is noticed', () => engine.getMetrics().store.breakerOpened > opened);
  await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
  await until('everything was repeated', () => pending(engine) === 0, RECOVERY_MS);
  return engine.getMetrics().store.commands - commands;
}

const revocations = async (server: Server) =>
  ((await server.command('KEYS', 'token_bl:*')) as string[]).length;

describe('a connection that is made again', () => {
  it('to the server of before repeats nothing', async () => {
    await begin(first.port);
    expect(await reconnected(first.port)).toBeLessThan(50);
  });

  it('to another server repeats what was acknowledged lately', async () => {
    await begin(first.port);
    expect(await reconnected(second.port)).toBeGreaterThanOrEqual(REVOKED);
    expect(await revocations(second)).toBe(REVOKED);
  });

  it('to a server that does not say which it is repeats as well', async () => {
    await second.command('FLUSHALL');
    const { rules } = await begin(first.port, ['INFO']);
    try {
      expect(await reconnected(rules?.port ?? 0)).toBeGreaterThanOrEqual(REVOKED);
    } finally {
      await rules?.stop();
    }
  });

  it('to a server that was started anew repeats as well', async () => {
    await begin(second.port);
    // The end of the server may be noticed before anybody calls.
    const before = engine.getMetrics().store;
    await second.kill();
    await second.restart();
    await second.command('FLUSHALL');
    expect(await reconnected(second.port, before)).toBeGreaterThanOrEqual(REVOKED);
    expect(await revocations(second)).toBe(REVOKED);
  });

  it('comes into service again and again while it breaks several times a second and much is revoked', async () => {
    await begin(first.port);
    let stopped = false;
    let inService = 0;
    const writing = (async () => {
      while (!stopped)
        await Promise.all(Array.from({ length: 20 }, () => engine.invalidateTokenCache(randomUUID())));
    })();
    for (let broken = 0; broken < 12; broken += 1) {
      proxy.switchTo(first.port);
      await sleep(250);
      if (engine.isRedisAvailable()) inService += 1;
    }
    stopped = true;
    await writing;
    expect(inService).toBeGreaterThan(6);
    await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
    await until('everything was applied', () => pending(engine) === 0, RECOVERY_MS);
  });
});
