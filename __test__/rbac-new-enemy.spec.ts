/**
 * The new enemy: somebody loses a right, the invalidation is acknowledged, and whoever asks afterwards, in any process,
 * is told so. Two real processes on one store and one Postgres, both with slow networks; entries are evicted and flushed,
 * subscriptions cut, readers killed, the store is replaced by a replica that missed the last invalidations, and the process
 * that follows the outbox is frozen and killed. Denied or fresh, never allowed by what was. Where nobody is told of a
 * change, that holds a second after its commit. The same judge finds a cache without leases guilty, and this one when it
 * is told to answer without validation.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { type Database, Databases } from './support/database.js';
import { until } from './support/engines.js';
import { JitterProxy } from './support/jitter-proxy.js';
import { migrate } from './support/migration.js';
import { Peer } from './support/processes.js';
import { createRbacTables } from './support/rbac-data.js';
import { groups, type Kind, type Lane } from './support/rbac-enemy-lanes.mjs';
import { RbacWorld } from './support/rbac-world.js';
import { type Report, resurrections } from './support/resurrections.js';
import { rounds } from './support/rounds.js';
import { SwitchProxy } from './support/switch-proxy.js';

/** Lanes of each kind: few where every change voids an entry of everybody. */
const LANES = { own: 3, shared: 1 } as const;
const READERS = 10;
/** `RBAC_BOUNDED_MS` of those who may answer so late. */
const BOUND_MS = 1_000;
/** The promise about changes that nobody is told of. */
const UNTOLD_MS = 1_000;

let databases: Databases;
beforeAll(async () => {
  databases = await Databases.start();
});
afterAll(() => databases?.[Symbol.asyncDispose]());

/** Two servers, one of which follows the other, and the address under which clients reach the one that counts. */
class Stores implements AsyncDisposable {
  /** When a replica stopped to follow, and when it took over, in nanoseconds: in between, acknowledgements are lost. */
  readonly losses: [fromNs: number, toNs: number][] = [];

  private constructor(
    private master: Server,
    private replica: Server,
    readonly proxy: SwitchProxy,
    private readonly startNs: bigint,
  ) {}

  static async start(startNs: bigint, newsMs: number): Promise<Stores> {
    const args = ['--repl-diskless-sync-delay', '0'];
    const [master, replica] = await Promise.all([startValkey({ args }), startValkey({ args })]);
    const stores = new Stores(master, replica, await SwitchProxy.to(master.port, newsMs), startNs);
    await stores.#follow();
    return stores;
  }

  async #follow(): Promise<void> {
    await this.replica.command('REPLICAOF', this.master.host, this.master.port);
    await until('the replica follows', async () => {
      const role = (await this.replica.command('ROLE')) as unknown[];
      return role[0] === 'slave' && role[3] === 'connected';
    });
  }

  command(...args: (string | number)[]): Promise<unknown> {
    return this.master.command(...args);
  }

  /** The replica takes over, without what was written in its last moments as one. */
  async failover(): Promise<void> {
    const now = () => Number(process.hrtime.bigint() - this.startNs);
    await this.replica.command('REPLICAOF', 'NO', 'ONE');
    const from = now();
    await sleep(30 + Math.random() * 70);
    this.losses.push([from, now()]);
    [this.master, this.replica] = [this.replica, this.master];
    this.proxy.switchTo(this.master.port);
    await this.#follow();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.proxy[Symbol.asyncDispose]();
    await Promise.all([this.master.stop(), this.replica.stop()]);
  }
}

/** A process that follows the outbox and is prevented from it. Whoever takes over meanwhile, it leads again afterwards. */
class Tailer implements AsyncDisposable {
  private constructor(
    private readonly options: EngineOptions,
    private readonly stores: Stores,
    private peer: Peer,
  ) {}

  static async start(options: EngineOptions, stores: Stores): Promise<Tailer> {
    // It looks more often than the others, so that it is the one who gets a lease that is free.
    const eager = { ...options, cacheTailPollMs: 20 };
    const tailer = new Tailer(eager, stores, new Peer('tail-worker.mjs', { options: eager }));
    await tailer.peer.next('ready');
    await tailer.#lead();
    return tailer;
  }

  /** Takes the lease from whoever has it, until this is the one who gets it. */
  async #lead(): Promise<void> {
    await until('it leads', async () => {
      await this.stores.command('DEL', 'tail:lead');
      await sleep(100);
      return (await this.peer.ask({ kind: 'tail' })).state === 'leading';
    });
  }

  /** While it leads. */
  async stop(): Promise<void> {
    if (Math.random() < 0.5) {
      this.peer.freeze();
      await sleep(100 + Math.random() * 900);
      this.peer.thaw();
    } else {
      await this.peer.kill();
      this.peer = new Peer('tail-worker.mjs', { options: this.options });
      await this.peer.next('ready');
    }
    await this.#lead();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer.kill();
  }
}

async function newLane(world: RbacWorld, kind: Kind): Promise<Lane> {
  const top = await world.organization({ name: '0', practice_uids: [1] });
  const child = await world.organization({ parent_organization_id: top, practice_uids: [2] });
  const role = await world.role({ description: '0' });
  const permission = await world.grant(role, 'records:read:own');
  const user = await world.user({ last_name: '0', roles: [role], organizations: [top] });
  return { kind, user, role, permission, top, child };
}

/** Does something again and again, with random pauses, until told to stop; answers how often. */
async function repeatedly(
  stopped: () => boolean,
  mostMs: number,
  fault: () => Promise<unknown>,
): Promise<number> {
  let count = 0;
  for (;;) {
    await sleep(mostMs / 2 + (Math.random() * mostMs) / 2);
    if (stopped()) return count;
    await fault();
    count += 1;
  }
}

interface Scenario {
  readonly group: keyof typeof groups;
  readonly rounds: number;
  /** Longest pause of a writer, in which caches are filled. */
  readonly pauseMs: number;
  /** Faults of the store while it runs. */
  readonly faults?: readonly ('flush' | 'subscription' | 'killed reader' | 'failover' | 'tailer')[];
  readonly evictions?: number;
  /** Writers tell nobody: the outbox does, unless nobody follows it. */
  readonly untold?: 'followed' | 'unfollowed';
  /** The cache that everybody writes first. */
  readonly naive?: boolean;
  /** Consistency `bounded`, with a bound so wide that only announcements end an answer, and those are late. */
  readonly unvalidated?: boolean;
}

interface Played {
  readonly reports: readonly EnemyReport[];
  readonly faults: Readonly<Record<string, number>>;
  /** Invalidations whose acknowledgement the store forgot. */
  readonly forgotten: number;
}

interface EnemyReport extends Report {
  readonly torn: readonly string[];
  readonly allowed: number;
  readonly denied: number;
}

async function lanesIn(database: Database, group: Scenario['group']): Promise<Lane[]> {
  await createRbacTables(database);
  const world = new RbacWorld(database);
  const all = groups[group].flatMap((kind) => Array.from({ length: LANES[group] }, () => kind));
  return Promise.all(all.map((kind) => newLane(world, kind)));
}

async function play(scenario: Scenario): Promise<Played> {
  const { group, faults = [], evictions = 0.01 } = scenario;
  const { naive = false, unvalidated = false } = scenario;
  const untold = scenario.untold !== undefined;
  const tailed = scenario.untold === 'followed' || faults.includes('tailer');
  // A change of what is shared voids the contexts of everybody: fewer of them, or there is nothing to void. The outbox
  // says more exactly whose.
  const pauseMs = scenario.pauseMs * (group === 'shared' && !untold ? 2.5 : 1);
  const startNs = process.hrtime.bigint();
  const database = await databases.create();
  const lanes = await lanesIn(database, group);
  if (tailed) await migrate(database);
  await using stores = await Stores.start(startNs, unvalidated ? 60 : 0);
  await using slowStore = await JitterProxy.to(stores.proxy.port, 3);
  await using slowSource = await JitterProxy.to(databases.server.port, 3);
  const task = (redisPort: number, mine: number[]) => ({
    ...{ naive, unvalidated, untold, evictions, pauseMs, lanes, mine, startNs, boundMs: BOUND_MS },
    lateMs: untold ? UNTOLD_MS : 0,
    ...{
      rounds: scenario.rounds / 2,
      readers: READERS,
      storePort: stores.proxy.port,
      sourceUrl: database.url,
    },
    options: {
      ...{ redisHost: '127.0.0.1', redisPort },
      databaseUrl: database.url.replace(/:\d+\//, `:${slowSource.port}/`),
      // What is not an outage shall not become one on a busy machine.
      ...(naive ? {} : { cacheDeadlineMs: 2_000, cacheSourceDeadlineMs: 20_000, cacheLeaseMs: 400 }),
      ...(naive ? {} : { cacheFlightWaitMs: 100, rbacBoundedMs: unvalidated ? 60_000 : BOUND_MS }),
      ...(tailed ? { cacheTailEnabled: true } : {}),
    },
  });
  const numbers = lanes.map((_, at) => at);
  const near = task(
    stores.proxy.port,
    numbers.filter((at) => at % 2 === 0),
  );
  const far = task(
    slowStore.port,
    numbers.filter((at) => at % 2 === 1),
  );
  await using tailer = tailed ? await Tailer.start(near.options, stores) : undefined;
  await using one = new Peer('rbac-enemy-worker.mjs', near);
  await using other = new Peer('rbac-enemy-worker.mjs', far);
  const both = [one, other];
  await Promise.all(both.map((process) => process.next('running')));

  let over = false;
  const stopped = () => over;
  const killed = async () => {
    await using reader = new Peer('rbac-enemy-worker.mjs', { ...near, mine: [], rounds: 0, readers: 4 });
    await reader.next('running');
    await sleep(100 + Math.random() * 300);
  };
  const does: Record<(typeof faults)[number], () => Promise<number>> = {
    flush: () => repeatedly(stopped, 800, () => stores.command('FLUSHALL')),
    subscription: () => repeatedly(stopped, 600, () => stores.command('CLIENT', 'KILL', 'TYPE', 'pubsub')),
    'killed reader': () => repeatedly(stopped, 600, killed),
    failover: () => repeatedly(stopped, 1_500, () => stores.failover()),
    tailer: () => repeatedly(stopped, 600, async () => tailer?.stop()),
  };
  const running = faults.map(async (fault) => [fault, await does[fault]()] as const);
  await Promise.all(both.map((process) => process.next('written')));
  over = true;
  const counts = Object.fromEntries(await Promise.all(running));
  const reports = (await Promise.all(
    both.map((process) => process.ask({ kind: 'report' })),
  )) as EnemyReport[];
  const times = reports.flatMap(({ acknowledged }) => [...acknowledged].filter((_, at) => at % 3 === 1));
  const lost = (atNs: number) => stores.losses.some(([from, to]) => atNs > from && atNs < to);
  return { reports, faults: counts, forgotten: times.filter(lost).length };
}

const sum = (reports: readonly EnemyReport[], of: (report: EnemyReport) => number): number =>
  reports.reduce((total, report) => total + of(report), 0);

function tell(name: string, { reports, faults, forgotten }: Played): void {
  const of = (report: EnemyReport) => report.metrics?.namespaces.user_context;
  const figures = {
    rounds: sum(reports, ({ acknowledged }) => acknowledged.length / 3),
    unacknowledged: sum(reports, ({ unacknowledged }) => unacknowledged),
    allowed: sum(reports, ({ allowed }) => allowed),
    denied: sum(reports, ({ denied }) => denied),
    near: sum(reports, (report) => of(report)?.near ?? 0),
    store: sum(reports, (report) => of(report)?.store ?? 0),
    source: sum(reports, (report) => of(report)?.source ?? 0),
    forgotten,
    voidedByWorkers: sum(reports, ({ metrics }) => metrics?.tail.events ?? 0),
    guilty: resurrections(reports).length,
  };
  console.info(`new enemy, ${name}: ${JSON.stringify({ ...figures, faults })}`);
}

/** Whether counts are large enough for every fault to have happened. */
const FULL = rounds(1, 0) === 1;

/** Nobody was let in by what was, and everything happened that should have. */
function innocent(played: Played, count: number, faults: readonly string[]): void {
  const { reports } = played;
  expect(resurrections(reports).slice(0, 5)).toEqual([]);
  expect(reports.flatMap(({ torn }) => torn)).toEqual([]);
  expect(reports.map(({ errors }) => errors)).toEqual([{}, {}]);
  expect(sum(reports, ({ acknowledged }) => acknowledged.length / 3)).toBe(count);
  // Both were busy with cached contexts, of people who were let in and of people who were not.
  for (const report of reports) {
    expect(report.reads.length / 3).toBeGreaterThan(count / 4);
    expect(Math.min(report.allowed, report.denied)).toBeGreaterThan(0);
    expect(report.metrics?.namespaces.user_context.near).toBeGreaterThan(count / 8);
  }
  if (!FULL) return;
  for (const fault of faults) expect([fault, played.faults[fault]]).not.toEqual([fault, 0]);
  // Whoever is frozen or killed was replaced.
  if (faults.includes('tailer')) {
    expect(sum(reports, ({ metrics }) => metrics?.tail.events ?? 0)).toBeGreaterThan(0);
  }
}

const troubles = [
  { trouble: 'slow networks and evictions', faults: [], pauseMs: 80 },
  {
    trouble: 'flushed stores, cut subscriptions and killed readers',
    faults: ['flush', 'subscription', 'killed reader'],
    pauseMs: 100,
  },
  {
    trouble: 'stores replaced by ones that missed the last invalidations',
    faults: ['failover', 'subscription'],
    pauseMs: 150,
  },
  { trouble: 'an outbox whose follower is frozen and killed', faults: ['tailer'], pauseMs: 100 },
] as const;

describe.each(troubles)('a right that was taken away is gone for everybody, with $trouble', (scenario) => {
  it.each([
    { group: 'own', full: 1_700, fewer: 30 },
    { group: 'shared', full: 900, fewer: 20 },
  ] as const)('changes of $group entries', { timeout: 300_000 }, async ({ group, full, fewer }) => {
    const count = rounds(full, fewer);
    const played = await play({ ...scenario, group, rounds: count });
    tell(`${group} entries, ${scenario.trouble}`, played);
    innocent(played, count, scenario.faults);
    if (FULL && scenario.faults.some((fault) => fault === 'failover')) {
      expect(played.forgotten).toBeGreaterThan(0);
    }
  });
});

describe('a right that was taken away by a plain statement is gone for everybody a second later', () => {
  it.each([
    { group: 'own', full: 300, fewer: 20 },
    { group: 'shared', full: 150, fewer: 10 },
  ] as const)('changes of $group entries', { timeout: 300_000 }, async ({ group, full, fewer }) => {
    const count = rounds(full, fewer);
    // Long enough that the next change of a lane does not hide that one was missed; nothing else voids an entry.
    const rest = { faults: ['tailer'], untold: 'followed', evictions: 0, pauseMs: 2_500 } as const;
    const played = await play({ group, rounds: count, ...rest });
    tell(`${group} entries, nobody is told`, played);
    innocent(played, count, rest.faults);
  });
});

describe('the judge notices', () => {
  it.each(['own', 'shared'] as const)('a cache that fills without a lease, by %s entries', async (group) => {
    const played = await play({ group, rounds: rounds(1_000, 150), pauseMs: 10, naive: true });
    tell(`a naive cache, ${group} entries`, played);
    expect(resurrections(played.reports).length).toBeGreaterThan(0);
  });

  it.each(['own', 'shared'] as const)(
    'this cache, when it answers without validation and announcements are late, by %s entries',
    async (group) => {
      const rest = { unvalidated: true, evictions: 0 };
      const played = await play({ group, rounds: rounds(600, 150), pauseMs: 100, ...rest });
      tell(`without validation, ${group} entries`, played);
      expect(resurrections(played.reports).length).toBeGreaterThan(0);
    },
  );

  it.each(['own', 'shared'] as const)(
    'this cache, when nobody is told and nobody follows the outbox, by %s entries',
    async (group) => {
      const rest = { untold: 'unfollowed', evictions: 0, pauseMs: 1_000 } as const;
      const played = await play({ group, rounds: rounds(60, 30), ...rest });
      tell(`nobody follows the outbox, ${group} entries`, played);
      expect(resurrections(played.reports).length).toBeGreaterThan(0);
    },
  );
});
