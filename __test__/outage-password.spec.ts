/**
 * Issue 2, "outage": a server that does not let the engine in, from the start or from some moment on. Real ACL users.
 */
import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { complaints, newWorld, type World } from './support/functions.js';
import { FIRST_CALL_MS, RECOVERY_MS, reaching } from './support/outage.js';

let databases: Databases;
let database: Database;
beforeAll(async () => {
  databases = await Databases.start();
  database = await databases.create();
});
afterAll(() => databases[Symbol.asyncDispose]());

describe('a password', () => {
  const right = { username: 'app', password: 'right' };
  let server: Server;
  let engines: Engines;
  let world: World;
  beforeEach(async () => {
    server = await startValkey({ acl: right });
    engines = new Engines();
    world = await newWorld(database);
  });
  afterEach(async () => {
    await engines[Symbol.asyncDispose]();
    await server.stop();
  });

  const engineWith = (password: string): Engine =>
    engines.start({ databaseUrl: database.url }, reaching(server), {
      redisUsername: right.username,
      redisPassword: password,
    });

  const truthful = async (engine: Engine) =>
    expect(await complaints(engine, world, { source: 'up', withinMs: FIRST_CALL_MS })).toEqual([]);

  const backInService = (engine: Engine) =>
    until('the store is in service', () => engine.isRedisAvailable(), RECOVERY_MS);

  it('wrong at the start: the source answers; in service 2 s after the server accepts it', async () => {
    const engine = engineWith('wrong');
    await truthful(engine);
    expect(engine.isRedisAvailable()).toBe(false);
    await server.command('ACL', 'SETUSER', right.username, '>wrong');
    await backInService(engine);
    await truthful(engine);
  });

  it('changed later: nothing is lost, and in service 2 s after the server accepts it again', async () => {
    const engine = engineWith(right.password);
    await truthful(engine);
    await backInService(engine);
    await server.command('ACL', 'SETUSER', right.username, 'resetpass', '>changed');
    await server.command('CLIENT', 'KILL', 'TYPE', 'normal');
    await truthful(engine);
    await until('the store is out of service', () => !engine.isRedisAvailable(), 1_000);
    const marked = randomUUID();
    expect(await engine.invalidateTokenCache(marked)).toEqual({ acknowledged: false, queued: true });
    await server.command('ACL', 'SETUSER', right.username, `>${right.password}`);
    await backInService(engine);
    expect(await engineWith('changed').isTokenBlacklisted(marked)).toBe(true);
    await truthful(engine);
  });

  it('a rejected password appears in no error, log record or health report', async () => {
    const engine = engineWith('very-secret-and-wrong');
    const records: string[] = [];
    engine.setLogger((record) => records.push(JSON.stringify(record)));
    await truthful(engine);
    records.push(JSON.stringify(await engine.getHealth()), engine.metricsText());
    engine.setLogger(null);
    expect(records.join('\n')).not.toContain('very-secret');
  });
});
