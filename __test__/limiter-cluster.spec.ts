/**
 * Rate limits on a real cluster of three masters and three replicas, and under the rules of a serverless offering: limits
 * of one identifier are one command, those of several are charged together or given back, and neither a failover nor a
 * slot that moves charges anything twice or forgets what was acknowledged. What a replica never got is forgotten, and
 * that much more may be admitted: that bound is shown, too.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Engine, RateLimitCheck, RateLimitResult } from '../index.js';
import {
  type Cluster,
  type FaultProxy,
  keySlot,
  type Server,
  startCluster,
  startProxy,
  startValkey,
} from './servers/index.mjs';
import { Engines, until } from './support/engines.js';
import { LimiterCommands } from './support/limiter-commands.js';
import {
  acquainted,
  allowed,
  counted,
  inTurns,
  LONG_SECONDS,
  limitKey,
  limitOf,
} from './support/limiter-engines.js';
import { checksOf, costOf, type Lane, reportsOf, worst } from './support/limiter-judge.js';
import { reaching } from './support/outage.js';
import { Peer } from './support/processes.js';
import { rounds } from './support/rounds.js';
import { optionsOf } from './support/stores.js';

const ENGINES = 2;

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

const remaining = async (engine: Engine, { type, identifier, limit = 0 }: RateLimitCheck): Promise<number> =>
  (await engine.peekRateLimit(type, identifier, limit, LONG_SECONDS)).remaining;

describe('on a cluster', () => {
  let cluster: Cluster;
  let engines: Engines;
  let both: [Engine, Engine];

  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(() => cluster?.stop());
  beforeEach(async () => {
    engines = new Engines();
    // Not 50: eight processes share few cores here, and only real outages shall be outages.
    const options = { ...optionsOf(cluster.env), cacheDeadlineMs: 500, cacheConnectTimeoutMs: 1_000 };
    // One that is running, whatever became of the others.
    const redisPort = (await cluster.masters())[0]?.port as number;
    both = [0, 1].map(() => engines.start({ ...options, redisPort })) as [Engine, Engine];
    await acquainted(both);
  });
  afterEach(() => engines[Symbol.asyncDispose]());

  /** The master that an identifier belongs to, and its number. */
  async function masterOf(identifier: string): Promise<{ master: Server; at: number }> {
    const slot = keySlot(identifier);
    const masters = await cluster.masters();
    const slots = (await (masters[0] as Server).command('CLUSTER', 'SLOTS')) as [number, number, unknown[]][];
    const port = slots.find(([first, last]) => first <= slot && slot <= last)?.[2][1];
    const at = masters.findIndex((one) => one.port === port);
    return { master: masters[at] as Server, at };
  }

  /** An identifier of the master with this number. */
  async function identifierOn(at: number): Promise<string> {
    for (;;) {
      const identifier = randomUUID();
      if ((await masterOf(identifier)).at === at) return identifier;
    }
  }

  it('limits of one identifier are one command, charged together or not at all', async () => {
    const [whose, first] = [await identifierOn(2), await identifierOn(2)];
    // Its node knows the script: otherwise every check would be asked twice.
    await both[0].checkRateLimits([limitOf('a', first, 10), limitOf('b', first, 10)]);
    const limits = [limitOf('a', whose, 10), limitOf('b', whose, 7), limitOf('c', whose, 2_000, 100)];
    const watched = await Promise.all(
      (await cluster.masters()).map((master) => LimiterCommands.watch(master)),
    );
    const told = await Promise.all(
      Array.from({ length: 60 }, (_, at) => (both[at % ENGINES] as Engine).checkRateLimits(limits)),
    );
    expect(told.filter(({ degraded }) => degraded)).toEqual([]);
    expect(allowed(told)).toBe(7);
    const left = await Promise.all(limits.map((one) => remaining(both[0], one)));
    expect(left).toEqual([3, 0, 1_300]);
    for (const one of watched) await one.settled();
    const commands = watched.flatMap(({ seen }) => seen).filter(({ keys }) => keys[0]?.includes(whose));
    const charges = commands.filter(({ action }) => action !== 'peek');
    expect(new Set(charges.map(({ action, keys }) => `${action} ${keys.join()}`))).toEqual(
      new Set([`all ${limits.map((one) => limitKey(one.type, one.identifier)).join()}`]),
    );
    // Some were denied without a command; nothing was given back.
    expect(charges.length).toBeLessThanOrEqual(60);
    expect(sum(both.map((engine) => engine.getMetrics().limiter.refunded))).toBe(0);
    for (const one of watched) await one[Symbol.asyncDispose]();
  });

  it('limits of different identifiers: what was charged in vain is given back', async () => {
    for (let round = 0; round < rounds(10, 3); round += 1) {
      // On three nodes, of both forms, with costs.
      const [wide, coarse, narrow] = [
        limitOf('wide', await identifierOn(0), 10),
        limitOf('coarse', await identifierOn(1), 3_000, 200),
        limitOf('narrow', await identifierOn(2), 3),
      ] as const;
      const limits = [wide, coarse, narrow];
      const refunded = () => sum(both.map((engine) => engine.getMetrics().limiter.refunded));
      const before = refunded();
      const one: RateLimitResult[] = [];
      for (let more = 0; more < 4; more += 1) one.push(await both[0].checkRateLimits(limits));
      expect(one.map((told) => told.allowed)).toEqual([true, true, true, false]);
      expect(one.at(-1)).toMatchObject({ type: 'narrow', degraded: false });
      expect(refunded()).toBe(before + 2);
      expect(await Promise.all(limits.map((limit) => remaining(both[1], limit)))).toEqual([7, 2_400, 0]);
      // It was given back before the answer: whoever asks next may have it.
      const other = await both[1].checkRateLimits(limits);
      expect(other.allowed).toBe(false);
      const rest = await both[1].checkRateLimit(wide.type, wide.identifier, 10, LONG_SECONDS, { cost: 7 });
      expect(rest).toMatchObject({ allowed: true, remaining: 0 });
    }
  });

  it('what is given back makes nobody forget what it admitted itself', async () => {
    const [wide, narrow] = [
      limitOf('wide', await identifierOn(0), 10),
      limitOf('narrow', await identifierOn(1), 1),
    ];
    const [first, second] = both;
    expect(allowed(await inTurns([first], 5, wide))).toBe(5);
    expect(allowed(await inTurns([first], 1, narrow))).toBe(1);
    // It does not know yet that one of them is used up, so the other is charged and given back.
    expect((await second.checkRateLimits([wide, narrow])).allowed).toBe(false);
    expect(second.getMetrics().limiter.refunded).toBe(1);
    // The announcement arrives.
    await sleep(200);
    await Promise.all(cluster.nodes.map((node) => node.pause()));
    try {
      // Half of it is its share, and that it has had.
      expect(allowed(await inTurns([first], 5, wide))).toBe(0);
      expect(allowed(await inTurns([second], 6, wide))).toBe(5);
    } finally {
      await Promise.all(cluster.nodes.map((node) => node.resume()));
      await cluster.ready();
    }
  });

  it('limits of different identifiers, many at once: nothing is lost on the way', async () => {
    for (let round = 0; round < rounds(10, 3); round += 1) {
      const limits = [
        limitOf('wide', await identifierOn(0), 30),
        limitOf('narrow', await identifierOn(1), 12),
      ];
      const told = await Promise.all(
        Array.from({ length: 80 }, async (_, at) => {
          await sleep(Math.random() * 10);
          return (both[at % ENGINES] as Engine).checkRateLimits(limits);
        }),
      );
      expect(told.filter(({ degraded }) => degraded)).toEqual([]);
      const admitted = allowed(told);
      expect(admitted).toBeLessThanOrEqual(12);
      expect(admitted).toBeGreaterThan(0);
      const left = await Promise.all(limits.map((limit) => remaining(both[0], limit)));
      expect(left).toEqual([30 - admitted, 12 - admitted]);
    }
  });

  it('a slot that moves to another node charges once, whoever answers', async () => {
    const whose = randomUUID();
    const { master: from } = await masterOf(whose);
    const to = (await cluster.masters()).find((master) => master.port !== from.port) as Server;
    const slot = keySlot(whose);
    /** Everything in the slot, also what others left there. */
    async function move(source: Server, target: Server): Promise<void> {
      const keys = (await source.command('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[];
      for (const key of keys) await source.command('MIGRATE', target.host, target.port, key, 0, 5_000);
    }
    const [fromId, toId] = await Promise.all(
      [from, to].map(async (node) => String(await node.command('CLUSTER', 'MYID'))),
    );
    const charged = { old: 0, new: 0 };
    /** Each engine knows the map of another moment. */
    async function charge(type: keyof typeof charged): Promise<void> {
      for (const engine of both) {
        charged[type] += 1;
        const told = await engine.checkRateLimit(type, whose, 100, LONG_SECONDS);
        expect(told).toMatchObject({ allowed: true, degraded: false, current: charged[type] });
      }
    }
    const redirects = () => sum(both.map((engine) => engine.getMetrics().store.redirects));
    await charge('old');
    const [first, opened] = [redirects(), both[0].getMetrics().store.breakerOpened];
    await to.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId as string);
    await from.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId as string);
    // What is there is answered here, what is not is answered there.
    await charge('old');
    await charge('new');
    expect(redirects()).toBeGreaterThan(first);
    expect(both[0].getMetrics().store.breakerOpened).toBe(opened);
    // Now one key is here and one is there: nobody can charge both as one.
    const old = both[0].getMetrics().limiter.degraded;
    const limits = [limitOf('old', whose, 100), limitOf('new', whose, 100)];
    expect((await both[0].checkRateLimits(limits)).allowed).toBe(true);
    expect(both[0].getMetrics().limiter.degraded).toBe(old + 1);
    charged.old += 1;
    charged.new += 1;
    await counted(both[0]);
    await until(
      'the store knows of it',
      async () => (await both[1].peekRateLimit('old', whose, 100, LONG_SECONDS)).current === charged.old,
    );
    await move(from, to);
    await charge('old');
    await charge('new');
    const together = await both[1].checkRateLimits(limits);
    charged.old += 1;
    charged.new += 1;
    expect(together).toMatchObject({ allowed: true, degraded: false });
    const second = redirects();
    for (const node of [to, from]) await node.command('CLUSTER', 'SETSLOT', slot, 'NODE', toId as string);
    await charge('old');
    await charge('new');
    expect(redirects()).toBeGreaterThan(second);
    // Back, so that the cluster is whole again for others.
    await from.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', toId as string);
    await to.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', fromId as string);
    await move(to, from);
    await charge('old');
    for (const node of [from, to]) await node.command('CLUSTER', 'SETSLOT', slot, 'NODE', fromId as string);
    await charge('old');
    await charge('new');
    await cluster.ready();
  });

  /** Checks by both, without a pause, until told to stop. */
  function asking(spec: RateLimitCheck): () => Promise<RateLimitResult[]> {
    const told: RateLimitResult[] = [];
    let stopped = false;
    const ask = async (engine: Engine) => {
      while (!stopped) {
        told.push(
          await engine.checkRateLimit(spec.type, spec.identifier, spec.limit as number, LONG_SECONDS),
        );
        await sleep(2);
      }
    };
    const done = Promise.all(both.map(ask));
    return async () => {
      stopped = true;
      await done;
      return told;
    };
  }

  it('a graceful failover in the middle forgets nothing, and charges nothing twice that was answered', async () => {
    const [tight, loose] = [
      limitOf('tight', await identifierOn(1), 20),
      limitOf('loose', await identifierOn(1), 50_000),
    ];
    const ends = [asking(tight), asking(loose)];
    await sleep(rounds(500, 200));
    await cluster.failover(1);
    await sleep(rounds(500, 200));
    const [few, many] = (await Promise.all(ends.map((end) => end()))) as [
      RateLimitResult[],
      RateLimitResult[],
    ];
    for (const engine of both) await counted(engine);
    const alone = many.filter(({ degraded }) => degraded).length;
    const { current } = await both[0].peekRateLimit(loose.type, loose.identifier, 50_000, LONG_SECONDS);
    console.info(
      `limiter, graceful failover: ${allowed(few)} of 20 admitted; ${many.length} of a large limit, ` +
        `${alone} of them without the store, counted ${current}`,
    );
    // Through the store at most the limit, and once more what both may admit without it.
    expect(allowed(few.filter(({ degraded }) => !degraded))).toBeLessThanOrEqual(20);
    expect(allowed(few)).toBeLessThanOrEqual(2 * 20);
    expect(allowed(few)).toBeGreaterThanOrEqual(20);
    // What was answered is counted once. What was not, at most twice: by the store, and by what it was told afterwards.
    expect(allowed(many)).toBe(many.length);
    expect(current).toBeGreaterThanOrEqual(many.length);
    expect(current).toBeLessThanOrEqual(many.length + alone);
    expect(await remaining(both[1], tight)).toBe(0);
  });

  async function replicaOf(master: Server): Promise<Server> {
    for (const node of cluster.nodes.filter(({ running }) => running)) {
      const [role, , port] = (await node.command('ROLE')) as unknown[];
      if (role === 'slave' && Number(port) === master.port) return node;
    }
    throw new Error('this master has no replica');
  }

  const losses = [
    { what: 'its replica missed the last admissions', lost: 8 },
    { what: 'its replica has everything', lost: 0 },
  ].slice(0, rounds(2, 1));

  it.each(losses)(
    'a master that is killed, and $what: at most so much more is admitted',
    async ({ lost }) => {
      const LIMIT = 8;
      const spec = limitOf('killed', await identifierOn(0), LIMIT);
      const { master } = await masterOf(spec.identifier);
      const replica = await replicaOf(master);
      if (lost > 0) {
        // It cannot connect again, so what is written from now on is nowhere else.
        await replica.pause();
        await master.command('CLIENT', 'KILL', 'TYPE', 'replica');
      }
      const before: RateLimitResult[] = [];
      for (let more = 0; more < LIMIT / 2; more += 1) {
        for (const engine of both) {
          before.push(await engine.checkRateLimit(spec.type, spec.identifier, LIMIT, LONG_SECONDS));
        }
      }
      expect({
        allowed: allowed(before),
        degraded: before.filter(({ degraded }) => degraded).length,
      }).toEqual({
        ...{ allowed: LIMIT, degraded: 0 },
      });
      if (lost === 0) {
        // Replicated behind everything before it.
        await master.command('SET', `{${spec.identifier}}`, 'x', 'EX', 60);
        expect(await master.command('WAIT', 1, 5_000)).toBe(1);
      }
      await master.kill();
      if (lost > 0) await replica.resume();
      const end = asking(spec);
      await cluster.ready();
      for (const engine of both) await counted(engine);
      await sleep(100);
      const after = await end();
      const degraded = after.filter((one) => one.degraded);
      const total = allowed(before) + allowed(after);
      const bound = LIMIT + Math.max(LIMIT, ENGINES) + lost;
      console.info(
        `limiter, master killed, ${lost} acknowledged admissions lost: ${total} of ${LIMIT} admitted, ` +
          `${allowed(degraded)} of them without the store; the bound is ${bound}`,
      );
      expect(after.length).toBeGreaterThan(100);
      expect(degraded.length).toBeGreaterThan(0);
      expect(total).toBeLessThanOrEqual(bound);
      if (lost > 0) expect(total).toBeGreaterThan(LIMIT);
      else expect(total).toBe(LIMIT);
      // Both knew what they had admitted themselves.
      expect(allowed(degraded)).toBe(0);
      expect(await remaining(both[0], spec)).toBe(0);
      await master.restart();
      await cluster.ready();
    },
  );
});

describe('four processes on a cluster whose masters change', () => {
  const PROCESSES = 4;
  let cluster: Cluster;
  let peers: Peer[] = [];

  beforeAll(async () => {
    cluster = await startCluster();
    const options = { ...optionsOf(cluster.env), cacheDeadlineMs: 500, cacheConnectTimeoutMs: 1_000 };
    const task = { options, storePort: 0, startNs: process.hrtime.bigint() };
    peers = Array.from({ length: PROCESSES }, () => new Peer('limiter-worker.mjs', task));
    await Promise.all(peers.map((peer) => peer.next('ready')));
  });
  afterAll(async () => {
    await Promise.all(peers.map((peer) => peer.kill()));
    await cluster?.stop();
  });

  /** All of them at once: whether each says so. */
  const everywhere = (what: string, holds: (one: { instances: number; degraded: boolean }) => boolean) =>
    until(
      what,
      async () => {
        const told = await Promise.all(peers.map((peer) => peer.ask({ kind: 'health' })));
        return told.every((one) => holds(one as unknown as { instances: number; degraded: boolean }));
      },
      10_000,
    );

  /**
   * Windows are shorter than it takes until a replica has taken over, so what it may have missed no longer counts. Each lane
   * belongs to one of three nodes, whoever it is.
   */
  it('admit within the bound through a graceful failover and a killed master', async () => {
    const shapes = [
      { limit: 10, windowMs: 300, mostCost: 1, burst: 6, pauseMs: 60 },
      { limit: 100, windowMs: 400, mostCost: 3, burst: 40, pauseMs: 100 },
      { limit: 1_500, windowMs: 500, mostCost: 3, burst: 200, pauseMs: 100 },
    ];
    /** An identifier in this third of all slots. */
    const identifierIn = (third: number): string => {
      for (let n = 0; ; n += 1) {
        const identifier = `lane-${n}`;
        if (Math.floor((keySlot(identifier) * 3) / 16_384) === third) return identifier;
      }
    };
    const lanes: Lane[] = [0, 1, 2].flatMap((third) =>
      shapes.map((shape) => ({ type: `of-${shape.limit}`, identifier: identifierIn(third), ...shape })),
    );
    await everywhere('they have heard of each other', ({ instances }) => instances === PROCESSES);
    for (const peer of peers) peer.send({ kind: 'run', lanes, naive: false, requests: Infinity });
    const reports = reportsOf(peers);
    await sleep(rounds(1_500, 700));
    await cluster.failover(1);
    await sleep(rounds(1_500, 700));
    const killed = await cluster.killMaster(2);
    await cluster.ready();
    await everywhere('the store counts again', ({ degraded }) => !degraded);
    await sleep(rounds(1_500, 700));
    for (const peer of peers) peer.send({ kind: 'stop' });
    const told = await reports;
    expect(told.map(({ errors }) => errors)).toEqual(peers.map(() => ({})));
    const figures = lanes.map(({ limit, windowMs }, at) => {
      const admitted = checksOf(told, at).filter(({ allowed }) => allowed);
      const through = admitted.filter(({ degraded }) => !degraded);
      return {
        ...{ limit, bound: limit + Math.max(limit, PROCESSES), admitted: costOf(admitted) },
        ...{ worst: worst(admitted, windowMs), through: worst(through, windowMs) },
        without: admitted.length - through.length,
      };
    });
    console.info(`limiter, four processes, a failover and a killed master: ${JSON.stringify(figures)}`);
    for (const { limit, bound, worst: most, through } of figures) {
      expect(through).toBeLessThanOrEqual(limit);
      expect(through).toBeGreaterThan(limit - 3);
      expect(most).toBeLessThanOrEqual(bound);
    }
    expect(sum(figures.map(({ without }) => without))).toBeGreaterThan(0);
    await killed.restart();
    await cluster.ready();
  });
});

describe('under the rules of a serverless offering', () => {
  let store: Server;
  let proxy: FaultProxy;
  const engines = new Engines();
  let one: Engine;
  let other: Engine;

  beforeAll(async () => {
    store = await startValkey();
    proxy = await startProxy({ port: store.port, refuse: 'serverless' });
    const patient = { cacheDeadlineMs: 2_000, cacheConnectTimeoutMs: 5_000 };
    [one, other] = [engines.start(reaching(proxy), patient), engines.start(reaching(proxy), patient)];
    await acquainted([one, other]);
  });
  afterAll(async () => {
    await engines[Symbol.asyncDispose]();
    await proxy?.stop();
    await store?.stop();
  });

  it('a limit of either form is shared, looked at, rewarded, blocked and reset', async () => {
    for (const limit of [4, 4_000]) {
      const given = ['every', randomUUID(), limit, LONG_SECONDS] as const;
      const cost = limit / 4;
      const told: RateLimitResult[] = [];
      for (let more = 0; more < 3; more += 1) {
        for (const engine of [one, other]) told.push(await engine.checkRateLimit(...given, { cost }));
      }
      expect(told.map((each) => [each.allowed, each.degraded, each.remaining / cost])).toEqual([
        ...[3, 2, 1, 0].map((left) => [true, false, left]),
        ...[0, 0].map((left) => [false, false, left]),
      ]);
      expect(told.at(-1)?.retryAfterMs).toBeGreaterThan((LONG_SECONDS - 60) * 1_000);
      expect(await other.peekRateLimit(...given)).toMatchObject({ allowed: false, current: limit });
      await other.rewardRateLimit(...given, cost);
      expect(await other.checkRateLimit(...given, { cost })).toMatchObject({ allowed: true, remaining: 0 });
      expect(await one.resetRateLimit(given[0], given[1])).toEqual({ acknowledged: true, queued: false });
      expect(await other.peekRateLimit(...given)).toMatchObject({
        allowed: true,
        current: 0,
        degraded: false,
      });
      await other.blockRateLimit(...given, 30);
      const blocked = await one.checkRateLimit(...given);
      expect(blocked).toMatchObject({ allowed: false, degraded: false });
      expect(blocked.retryAfterMs > 20_000 && blocked.retryAfterMs <= 30_000).toBe(true);
      await one.blockRateLimit(...given, 0);
      expect(await one.checkRateLimit(...given)).toMatchObject({
        allowed: true,
        current: 1,
        degraded: false,
      });
    }
  });

  it('several limits are charged together, or given back', async () => {
    const whose = randomUUID();
    for (const [a, b] of [
      [whose, whose],
      [randomUUID(), randomUUID()],
    ] as const) {
      const limits = [limitOf('first', a, 5), limitOf('second', b, 2)];
      const told: RateLimitResult[] = [];
      for (let more = 0; more < 2; more += 1) {
        for (const engine of [one, other]) told.push(await engine.checkRateLimits(limits));
      }
      expect(told.map((each) => [each.allowed, each.degraded])).toEqual([
        [true, false],
        [true, false],
        [false, false],
        [false, false],
      ]);
      expect(await Promise.all(limits.map((limit) => remaining(one, limit)))).toEqual([3, 0]);
    }
  });

  it('a script that is forgotten now and then costs nothing but a repetition', async () => {
    const whose = randomUUID();
    for (let more = 1; more <= 30; more += 1) {
      if (more % 3 === 0) await store.command('SCRIPT', 'FLUSH');
      const told = await one.checkRateLimit('flushed', whose, 100, LONG_SECONDS);
      expect(told).toMatchObject({ allowed: true, degraded: false, current: more });
      const both = await other.checkRateLimits([
        limitOf('flushed-a', whose, 100),
        limitOf('flushed-b', whose, 100),
      ]);
      expect(both.results.map(({ current, degraded }) => [current, degraded])).toEqual([
        [more, false],
        [more, false],
      ]);
    }
  });

  it('told that it is one server, an engine finds out that keys must not be mixed', async () => {
    const plain = engines.start(reaching(proxy), { redisMode: 'standalone', cacheDeadlineMs: 2_000 });
    await counted(plain);
    // Checks that were to travel together are refused as a whole, and sent again one by one: nobody notices.
    const apart = await Promise.all(
      Array.from({ length: 30 }, (_, at) =>
        plain.checkRateLimit('apart', randomUUID(), 5 + (at % 2) * 5_000, 60),
      ),
    );
    for (const one of apart) expect(one).toMatchObject({ allowed: true, degraded: false, current: 1 });
    const limits = [limitOf('first', randomUUID(), 5), limitOf('second', randomUUID(), 2)];
    const told: RateLimitResult[] = [];
    // The first one is refused and decided here; once the store knows of it, it is asked limit by limit.
    told.push(await plain.checkRateLimits(limits));
    await until('it was told', async () => (await plain.getHealth()).limiter.status === 'healthy');
    for (let more = 0; more < 3; more += 1) told.push(await plain.checkRateLimits(limits));
    expect(told.slice(1).map(({ degraded }) => degraded)).toEqual([false, false, false]);
    expect(allowed(told)).toBeGreaterThanOrEqual(2);
    expect(allowed(told)).toBeLessThanOrEqual(3);
    await until('everything was told', async () => (await remaining(one, limits[1] as RateLimitCheck)) === 0);
  });
});
