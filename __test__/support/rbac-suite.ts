/**
 * The frame of a suite about roles and contexts: a store, a database with the tables and two engines, started before its
 * tests and ended after them. Not a test. Invariant: every suite has a database and engines of its own.
 */
import { afterAll, beforeAll } from 'vitest';
import type { Engine } from '../../index.js';
import { Databases } from './database.js';
import { Engines } from './engines.js';
import type { Context } from './rbac-behaviour.js';
import { createRbacTables } from './rbac-data.js';
import { Oracle } from './rbac-oracle.js';
import { RbacWorld } from './rbac-world.js';
import type { StoreKind, TestStore } from './stores.js';

/** The Postgres of a spec file; call it once, at the top. */
export function postgres(): () => Databases {
  let databases: Databases | undefined;
  beforeAll(async () => {
    databases = await Databases.start();
  });
  afterAll(() => databases?.[Symbol.asyncDispose]());
  return () => {
    if (databases === undefined) throw new Error('before the suite has begun');
    return databases;
  };
}

export interface Suite {
  readonly context: () => Context;
  readonly store: () => TestStore;
  readonly engines: Engines;
}

/** Starts everything for the suite around. */
export function suite(databases: () => Databases, kind: StoreKind): Suite {
  const engines = new Engines();
  let store: TestStore;
  let context: Context;
  beforeAll(async () => {
    store = await kind.start();
    const db = await databases().create();
    await createRbacTables(db);
    const options = { ...store.options, databaseUrl: db.url, cacheSourceDeadlineMs: 10_000 };
    const [engine, second] = [engines.start(options), engines.start(options)];
    context = { db, world: new RbacWorld(db), oracle: await Oracle.of(db), engine, second };
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await context?.oracle[Symbol.asyncDispose]();
    await store?.[Symbol.asyncDispose]();
  });
  return { context: () => context, store: () => store, engines };
}

/** Round trips of the store that an action takes. */
export async function tripsOf(engine: Engine, action: () => Promise<unknown>): Promise<number> {
  const before = engine.getMetrics().store.roundTrips;
  await action();
  return engine.getMetrics().store.roundTrips - before;
}
