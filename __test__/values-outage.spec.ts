/**
 * The generic service while the store is away: reads are misses, removals that cannot be carried out are errors, and what
 * is deleted by key is deleted once the store is back. Not about the outage itself: `outage-store.spec`.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { pending, RECOVERY_MS } from './support/outage.js';

/** A command's deadline, the one of a second batch, and a busy machine. */
const BOUND_MS = 700;

const engines = new Engines();
let server: Server;
let engine: Engine;
let other: Engine;
beforeAll(async () => {
  server = await startValkey();
  const options = { redisHost: server.host, redisPort: server.port };
  [engine, other] = [engines.start(options), engines.start(options, { cacheDeadlineMs: 2_000 })];
  await Promise.all([engine, other].map((one) => one.getHealth()));
  await Promise.all([engine, other].map((one) => one.redisCacheService.get('contact')));
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await server?.stop();
});

const ways = [
  { how: 'stopped', begin: () => server.pause(), end: () => server.resume() },
  { how: 'killed', begin: () => server.kill(), end: () => server.restart() },
];

describe.each(ways)('a store that is $how', ({ how, begin, end }) => {
  it('is a miss to whoever reads, and an error to whoever must know that nothing is left', async () => {
    const service = engine.redisCacheService;
    const [value, counter] = [`${how}:value`, `${how}:counter`];
    await service.setWithTags(value, 'old', 600, [how]);
    await service.incr(counter, 5);
    service.resetMetrics();
    await begin();
    const answers: readonly [string, () => Promise<unknown>, unknown][] = [
      ['get', () => service.get(value), null],
      ['mget', () => service.mget([value, counter]), [null, null]],
      ['set', () => service.set(`${how}:new`, 1, 60), false],
      ['mset', () => service.mset([[`${how}:new`, 1, 60]]), false],
      ['setWithTags', () => service.setWithTags(`${how}:new`, 1, 60, [how]), false],
      ['exists', () => service.exists(value), false],
      ['ttl', () => service.ttl(value), -1],
      ['expire', () => service.expire(value, 60), false],
      ['incr', () => service.incr(counter), 0],
      ['decr', () => service.decr(counter), 0],
      ['info', () => service.info(), { connected: false, keyCount: 0, memory: 'N/A' }],
    ];
    for (const [name, ask, expected] of answers) {
      const from = performance.now();
      expect(await ask(), name).toEqual(expected);
      expect(performance.now() - from, name).toBeLessThan(BOUND_MS);
    }
    let computed = 0;
    const compute = () => {
      computed += 1;
      return 'computed';
    };
    expect(await service.getOrSet(value, compute, 60)).toBe('computed');
    expect(computed).toBe(1);
    for (const remove of [
      () => service.delPattern(`${how}:*`),
      () => service.invalidateByTag(how),
      () => service.flushAll(),
    ]) {
      await expect(remove()).rejects.toMatchObject({ code: 'E_STORE_UNAVAILABLE' });
    }
    expect(service.getMetrics().errors).toBeGreaterThanOrEqual(8);
    expect(await service.del(value)).toEqual({ acknowledged: false, queued: true });
    await end();
    await until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);
    await until('what was queued is applied', () => pending(engine) === 0, RECOVERY_MS);
    await until('the other one is back', () => other.isRedisAvailable(), RECOVERY_MS * 2);
    expect(await other.redisCacheService.get(value)).toBeNull();
    // A killed server of the tests keeps nothing; a stopped one has it all.
    expect(await service.incr(counter)).toBe(how === 'stopped' ? 6 : 1);
  });
});
