/**
 * Contexts while the store holds or says what is not so: entries that are cut, exchanged or of another type, replies that
 * belong to other requests. The right answer or none, and never somebody else's rights.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import type { Database } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { type Lie, LyingProxy } from './support/lying-proxy.js';
import { RECOVERY_MS, reaching } from './support/outage.js';
import { createRbacTables } from './support/rbac-data.js';
import { wrong } from './support/rbac-judge.js';
import { type Expected, Oracle } from './support/rbac-oracle.js';
import { postgres } from './support/rbac-suite.js';
import { aPerson, type Person, RbacWorld } from './support/rbac-world.js';
import { rounds } from './support/rounds.js';

const databases = postgres();
let db: Database;
let world: RbacWorld;
let oracle: Oracle;
let server: Server;
let engines: Engines;
/** Reaches the store without anybody in between. */
let other: Engine;
let person: Person;

const start = (...options: EngineOptions[]): Engine =>
  engines.start({ databaseUrl: db.url, cacheSourceDeadlineMs: 10_000 }, ...options);

beforeAll(async () => {
  db = await databases().create();
  await createRbacTables(db);
  world = new RbacWorld(db);
  server = await startValkey();
  oracle = await Oracle.of(db);
});
afterAll(async () => {
  await oracle?.[Symbol.asyncDispose]();
  await server?.stop();
});
beforeEach(async () => {
  engines = new Engines();
  other = start(reaching(server), { cacheDeadlineMs: 2_000 });
  person = await aPerson(world);
});
afterEach(() => engines[Symbol.asyncDispose]());

async function check(by: Engine, user: string, expected?: Expected): Promise<void> {
  const told = await outcome(by.getCachedUserContext(user));
  expect(wrong(told, expected ?? (await oracle.one(user)))).toBeUndefined();
}

describe('an entry that is not what it should be', () => {
  /** The person's key, and one that holds something else, which may be broader. */
  const places: readonly [
    name: string,
    key: (one: Person) => string,
    foreign: (another: Person) => string,
  ][] = [
    ["the user's own part", ({ user }) => `user_context:${user}`, ({ user }) => `user_context:${user}`],
    ['a role', ({ viewer }) => `role_perms:${viewer}`, ({ editor }) => `role_perms:${editor}`],
    ['the tree', () => 'org_tree:all', ({ editor }) => `role_perms:${editor}`],
    ['the epoch', () => 'rbac_epoch:all', () => 'org_tree:all'],
  ];
  const HEADER = 32;
  const set = (key: string, value: string) => server.command('SET', key, value, 'PX', 60_000);
  const damages: readonly [
    name: string,
    (key: string, foreign: string, value: string) => Promise<unknown>,
  ][] = [
    ['is gone', (key) => server.command('DEL', key)],
    ['is empty', (key) => set(key, '')],
    ['is no entry', (key) => set(key, 'nonsense')],
    ['lost its end', (key, _, value) => set(key, value.slice(0, -Math.ceil(value.length / 3)))],
    ['lost its payload', (key, _, value) => set(key, value.slice(0, HEADER))],
    ['has another character', (key, _, value) => set(key, value.replace(/[0-9](?=[^0-9]*$)/, '/'))],
    ['is that of another key', (key, foreign) => server.command('COPY', foreign, key, 'REPLACE')],
    [
      'has the payload of another key',
      async (key, foreign, value) =>
        set(key, value.slice(0, HEADER) + String(await server.command('GET', foreign)).slice(HEADER)),
    ],
    [
      'is of another type',
      async (key) => {
        await server.command('DEL', key);
        await server.command('RPUSH', key, 'a', 'b');
      },
    ],
  ];
  const cases = places.flatMap(([place, key, foreign]) =>
    damages.map(([damage, does]) => ({ place, damage, key, foreign, does })),
  );
  // A short run takes every damage, but not in every place.
  const some = cases.filter((_, index) => index % rounds(1, places.length + 1) === 0);

  it.each(some)('$place $damage: nobody gets a wrong answer', async ({ key, foreign, does }) => {
    const off = { mode: 'off' } as const;
    // Without near copies whatever is read is what the store holds.
    const plain = start(reaching(server), { near: { user_context: off, role_perms: off, org_tree: off } });
    const another = await aPerson(world);
    await other.invalidateOrganizationHierarchy();
    await other.getCachedRolePermissions(another.editor);
    for (const by of [plain, other]) for (const one of [person, another]) await check(by, one.user);
    const expected = await Promise.all([person, another].map((one) => oracle.one(one.user)));
    const held = String(await server.command('GET', key(person)));
    for (const by of [other, plain]) {
      await does(key(person), foreign(another), held);
      for (let round = 0; round < 2; round += 1) {
        for (const one of expected) await check(by, one.user_id, one);
      }
    }
  });
});

describe('replies that belong to other requests', () => {
  const SUBJECTS = 30;
  const lies: readonly [Lie, number][] = [
    ['exchange', 5],
    ['repeat', 11],
    ['lose', 11],
    ['repeat', 40],
  ];

  it.each(lies)('%s one in %d: no context is that of somebody else', async (lie, every) => {
    await using liar = await LyingProxy.start(server.port);
    const deceived = start(reaching(liar));
    const people = await Promise.all(Array.from({ length: SUBJECTS }, () => aPerson(world)));
    await other.invalidateOrganizationHierarchy();
    const expected = new Map((await oracle.all()).map((one) => [one.user_id, one]));
    const total = rounds(4_000, 200);
    const found: string[] = [];
    let asked = 0;
    const ask = async () => {
      while (asked < total) {
        const { user, viewer } = people[(asked * 13) % SUBJECTS] as Person;
        asked += 1;
        if (asked === total >> 3) liar.lie(lie, every);
        if (asked % 40 === 0) await server.command('DEL', `user_context:${user}`);
        if (asked % 97 === 0) await server.command('DEL', 'org_tree:all');
        const told = await outcome(deceived.getCachedUserContext(user));
        const complaint = wrong(told, expected.get(user) as Expected);
        if (complaint !== undefined) found.push(complaint);
        const role = await deceived.getCachedRolePermissions(viewer);
        if (role?.role_id !== viewer) found.push(`role ${role?.role_id} instead of ${viewer}`);
      }
    };
    await Promise.all(Array.from({ length: 20 }, ask));
    expect(found.slice(0, 5)).toEqual([]);
    expect(liar.lies).toBeGreaterThan(0);
    liar.relent();
    await until('the store is in service', () => deceived.isRedisAvailable(), RECOVERY_MS);
    for (const { user } of people) await check(deceived, user, expected.get(user));
  });
});
