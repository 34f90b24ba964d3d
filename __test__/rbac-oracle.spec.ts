/**
 * A hundred thousand random little worlds of users, roles, permissions and organizations: whoever is asked - a cold
 * cache, a warm one, the source, an engine without a store - says what one naive SQL text says, about contexts,
 * scopes and permissions. Not about changes: rows stand still while they are read. `BCOS_SEED` chooses another series;
 * a failure names the seed and the graph, which is enough to see it again.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, statementsOf } from './support/engines.js';
import { createRbacTables, graphs, Random, replaceRows } from './support/rbac-data.js';
import { difference, type Told, wrong, wrongRefusal } from './support/rbac-judge.js';
import { type Expected, Oracle } from './support/rbac-oracle.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_261_123);
const GRAPHS = rounds(100_000, 1_000);
/** Graphs in one database at a time: their organizations are one tree, which is one entry. */
const PER_ROUND = rounds(400, 250);
const PER_TEST = rounds(10_000, 500);
/** Concurrent calls that read the source, one statement each. */
const AT_ONCE = 64;
/** Of how many users one is also asked of an engine without a store. */
const SAMPLE = 20;

let databases: Databases;
let db: Database;
let oracle: Oracle;
let server: Server;
let engine: Engine;
let bare: Engine;
const engines = new Engines();

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  db = await databases.create();
  await createRbacTables(db);
  oracle = await Oracle.of(db);
  const patient = { cacheDeadlineMs: 5_000, cacheSourceDeadlineMs: 60_000, cacheBulkheadQueue: 100_000 };
  engine = engines.start({ redisHost: server.host, redisPort: server.port, databaseUrl: db.url }, patient);
  bare = engines.start({ cacheStore: 'none', databaseUrl: db.url }, patient);
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await oracle?.[Symbol.asyncDispose]();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

/** What was asked, and how often the worlds held what makes them worth asking. */
const counts = {
  ...{ graphs: 0, users: 0, cold: 0, cached: 0, same: 0, fresh: 0, withoutStore: 0, roles: 0, scopes: 0 },
  ...{ inactive: 0, deleted: 0, superAdmins: 0, organizationAdmins: 0, withoutRoles: 0, descendants: 0 },
  ...{
    scopeAll: 0,
    scopePractices: 0,
    scopeProvider: 0,
    scopeProviderZero: 0,
    practiceZero: 0,
    repeatedRoles: 0,
  },
};

function count({ denied, context, scopes }: Expected): void {
  counts.users += 1;
  if (denied !== null) {
    counts[denied] += 1;
    return;
  }
  const scope = scopes['analytics:read'];
  const had: Partial<Record<keyof typeof counts, boolean>> = {
    superAdmins: context.is_super_admin,
    organizationAdmins: context.organization_admin_for.length > 0,
    withoutRoles: context.roles.length === 0,
    descendants: context.accessible_organizations.length > context.organizations.length,
    repeatedRoles: context.user_roles.length > context.roles.length,
    practiceZero: context.accessible_practices.includes(0),
    scopeAll: scope?.kind === 'all' && !context.is_super_admin,
    scopePractices: scope?.kind === 'rows' && scope.providers === null,
    scopeProvider: scope?.kind === 'rows' && scope.providers !== null,
    scopeProviderZero: scope?.kind === 'rows' && scope.providers?.[0] === 0,
  };
  for (const name of Object.keys(had) as (keyof typeof counts)[]) counts[name] += had[name] ? 1 : 0;
}

/** Results in the order of the list, at most so many at a time. */
async function each<T, R>(list: readonly T[], atOnce: number, call: (one: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(list.length);
  let next = 0;
  const work = async () => {
    while (next < list.length) {
      const index = next;
      next += 1;
      results[index] = await call(list[index] as T);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  return results;
}

/** Complaints of one round, each with what is needed to see it again. */
class Round {
  readonly complaints: string[] = [];

  constructor(
    private readonly graphOf: ReadonlyMap<string, number>,
    readonly expected: readonly Expected[],
  ) {}

  judge(how: string, told: readonly Told[], expected: readonly Expected[] = this.expected): void {
    for (const [index, one] of expected.entries()) {
      const complaint = wrong(told[index] as Told, one);
      if (complaint !== undefined) this.#complain(how, one.user_id, complaint);
    }
  }

  #complain(how: string, userId: string, complaint: string): void {
    const graph = this.graphOf.get(userId);
    this.complaints.push(`seed ${SEED}, graph ${graph}, user ${userId}, ${how}: ${complaint}`);
  }
}

const idOf = ({ user_id }: Expected): string => user_id;

/** A new world under the same engine: every entry is gone, or only the tree is void, by turns. */
async function newWorld(first: number): Promise<Round> {
  const { rows, graphOf } = graphs(SEED, first, Math.min(PER_ROUND, GRAPHS - first));
  await replaceRows(db, rows);
  if ((first / PER_ROUND) % 2 === 0) await server.command('FLUSHALL');
  else {
    const done = await engine.invalidateOrganizationHierarchy('new_world');
    expect(done).toEqual({ acknowledged: true, queued: false });
  }
  return new Round(graphOf, await oracle.all());
}

async function play(first: number): Promise<readonly string[]> {
  const round = await newWorld(first);
  const { expected } = round;
  for (const one of expected) count(one);

  const cold: Told[] = await each(expected, expected.length, (one) =>
    outcome(engine.getCachedUserContext(idOf(one))),
  );
  round.judge('cold', cold);

  let again: Told[] = [];
  const cost = await statementsOf(engine, async () => {
    again = await each(expected, expected.length, (one) => outcome(engine.getCachedUserContext(idOf(one))));
  });
  if (cost !== 0)
    round.complaints.push(`seed ${SEED}, graphs from ${first}: the second reads cost ${cost} statements`);
  const changed = expected.flatMap((one, index) => {
    const [told, before] = [again[index] as Told, cold[index] as Told];
    // The very object that was judged before needs no second look.
    const same = 'value' in told && 'value' in before && told.value === before.value;
    counts.same += same ? 1 : 0;
    return same ? [] : [{ one, told }];
  });
  const [told, ones] = [changed.map((entry) => entry.told), changed.map((entry) => entry.one)];
  round.judge('from the cache', told, ones);

  const some = expected.filter((_, index) => index % 2 === 0);
  const fresh: Told[] = await each(some, AT_ONCE, (one) =>
    outcome(engine.getCachedUserContext(idOf(one), { consistency: 'fresh' })),
  );
  round.judge('fresh', fresh, some);

  const sample = expected.filter((_, index) => index % SAMPLE === 0);
  const alone: Told[] = await each(sample, AT_ONCE, (one) => outcome(bare.getCachedUserContext(idOf(one))));
  round.judge('without a store', alone, sample);

  await others(round, first);
  counts.graphs += Math.min(PER_ROUND, GRAPHS - first);
  counts.cold += cold.length;
  counts.cached += again.length;
  counts.fresh += fresh.length;
  counts.withoutStore += alone.length;
  counts.scopes += expected.length * Object.keys(expected[0]?.scopes ?? {}).length;
  return round.complaints;
}

/** Somebody who does not exist, and the roles by themselves. */
async function others(round: Round, first: number): Promise<void> {
  const nobody = new Random(SEED, -1 - first).uuid();
  for (const by of [engine, bare]) {
    const complaint = wrongRefusal(await outcome(by.getCachedUserContext(nobody)), 'unknown');
    if (complaint !== undefined) round.complaints.push(`nobody: ${complaint}`);
  }
  const roles = [...(await oracle.roles())].filter((_, index) => index % SAMPLE === 0);
  const told = await each(roles, AT_ONCE, ([id]) => outcome(engine.getCachedRolePermissions(id)));
  for (const [index, [id, right]] of roles.entries()) {
    const complaint = difference(told[index], { value: right });
    if (complaint !== undefined)
      round.complaints.push(`seed ${SEED}, graphs from ${first}, role ${id}: ${complaint}`);
  }
  counts.roles += roles.length;
}

describe('a context equals the oracle', () => {
  const starts = Array.from({ length: Math.ceil(GRAPHS / PER_TEST) }, (_, index) => index * PER_TEST);

  it.each(starts)('for every user of the graphs from %d on', { timeout: 300_000 }, async (start) => {
    for (let first = start; first < Math.min(start + PER_TEST, GRAPHS); first += PER_ROUND) {
      const complaints = await play(first);
      // A defect shows in many places; the first ones say enough.
      expect(complaints.slice(0, 5), `${complaints.length} complaints`).toEqual([]);
    }
  });

  it('and every kind of user was among them', () => {
    console.info(`rbac oracle, seed ${SEED}: ${JSON.stringify(counts)}`);
    expect(counts.graphs).toBe(GRAPHS);
    expect(Object.entries(counts).filter(([, number]) => number === 0)).toEqual([]);
  });
});
