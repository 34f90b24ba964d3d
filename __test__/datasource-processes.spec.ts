/**
 * One query over real processes: six charts in each of two ask for a cold key at once; a query that rejects, whose caller
 * goes away or runs out of time is not cached and not run twice; an old result is refreshed by one of them, and by the
 * other when that one is killed.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { DataSourceOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { until } from './support/engines.js';
import { Peer } from './support/processes.js';
import { rounds } from './support/rounds.js';

const CHARTS = 6;
const LEASE_MS = 1_000;
const STALE_MS = 600_000;

interface Answered {
  readonly ended: readonly string[];
  readonly ran: number;
  readonly fromCache: number;
}

interface Order {
  readonly ms?: number;
  readonly version?: number;
  readonly does?: 'answer' | 'reject';
  readonly abortMs?: number;
  readonly callers?: number;
  readonly options?: DataSourceOptions;
}

let store: Server;
let peers: Peer[];
let params: { readonly dataSourceId: string };

beforeAll(async () => {
  store = await startValkey();
});
afterAll(() => store?.stop());

beforeEach(async () => {
  params = { dataSourceId: randomUUID() };
  const options = {
    ...{ redisHost: store.host, redisPort: store.port, cacheLeaseMs: LEASE_MS },
    // Busy cores shall not look like an outage.
    cacheDeadlineMs: 2_000,
  };
  peers = [1, 2].map(() => new Peer('datasource-worker.mjs', { options }));
  await Promise.all(peers.map((peer) => peer.next('ready')));
});
afterEach(() => Promise.all(peers.map((peer) => peer.kill())));

function ask(peer: Peer, order: Order = {}): Promise<Answered> {
  const usual = { callers: CHARTS, ms: 100, version: 1, does: 'answer', options: {} };
  peer.send({ kind: 'crowd', params, ...usual, ...order });
  return peer.next('answered') as Promise<unknown> as Promise<Answered>;
}

const askAll = (order: Order = {}): Promise<Answered[]> => Promise.all(peers.map((peer) => ask(peer, order)));

const sum = (answers: readonly Answered[], of: 'ran' | 'fromCache'): number =>
  answers.reduce((total, one) => total + one[of], 0);

const endings = (answers: readonly Answered[]): string[] => [
  ...new Set(answers.flatMap(({ ended }) => ended)),
];

async function resultKey(): Promise<string | undefined> {
  const keys = (await store.command('KEYS', `datasource:${params.dataSourceId}:*`)) as string[];
  return keys.find((key) => !key.endsWith(':refresh'));
}

describe('six charts in each of two processes', () => {
  it.each([{ ms: 0 }, { ms: 20 }, { ms: 300 }])('on a cold key are one query of $ms ms', async ({ ms }) => {
    for (let round = 0; round < rounds(30, 5); round += 1) {
      params = { dataSourceId: randomUUID() };
      const answers = await askAll({ ms, version: round });
      expect(sum(answers, 'ran')).toBe(1);
      expect(endings(answers)).toEqual([String(round)]);
      expect(sum(answers, 'fromCache')).toBe(2 * CHARTS - 1);
    }
  });

  it('whose query rejects: each process is told once, by its own, and nothing is kept', async () => {
    for (let round = 0; round < rounds(10, 2); round += 1) {
      params = { dataSourceId: randomUUID() };
      const answers = await askAll({ does: 'reject', ms: 50 });
      for (const [index, { ended, ran }] of answers.entries()) {
        // Errors do not leave their process, so the one that waited for the other runs its own, once.
        expect(ran).toBe(1);
        expect([...new Set(ended)]).toEqual([`process ${peers[index]?.pid} says no`]);
      }
      expect(await resultKey()).toBeUndefined();
      expect(sum(await askAll({ version: 2 }), 'ran')).toBe(1);
    }
  });

  it.each<[how: string, order: Order, ending: string]>([
    ['whose callers go away', { abortMs: 60 }, 'gone'],
    ['that run out of time', { options: { deadlineMs: 60 } }, 'E_DEADLINE'],
  ])('%s: the query is not run again, and what it brings is not kept', async (_, order, ending) => {
    const [one, other] = peers as [Peer, Peer];
    const { ended, ran } = await ask(one, { ...order, ms: 300 });
    expect([ended, ran]).toEqual([new Array(CHARTS).fill(ending), 1]);
    // It runs still; others wait for its end, and then run their own.
    const after = await ask(other, { version: 2, ms: 20 });
    expect([endings([after]), after.ran]).toEqual([['2'], 1]);
    await sleep(400);
    const later = await askAll({ version: 3 });
    expect([endings(later), sum(later, 'ran')]).toEqual([['2'], 0]);
    one.send({ kind: 'count' });
    expect(await one.next('count')).toMatchObject({ ran: 0 });
  });

  it('whose query takes several leases: it is one query all the same, and kept', async () => {
    const answers = await askAll({ ms: 2.5 * LEASE_MS });
    expect([endings(answers), sum(answers, 'ran')]).toEqual([['1'], 1]);
    const later = await askAll({ version: 2 });
    expect([endings(later), sum(later, 'ran')]).toEqual([['1'], 0]);
  });

  it('of which one is killed while its query runs: the other one runs its own, once', async () => {
    const [one, other] = peers as [Peer, Peer];
    const lost = ask(one, { ms: 60_000 }).catch((error: unknown) => error);
    await one.next('runs 1');
    const waiting = ask(other, { version: 2, ms: 20 });
    await sleep(2 * LEASE_MS);
    const from = performance.now();
    await one.kill();
    const answers = await waiting;
    expect([endings([answers]), answers.ran]).toEqual([['2'], 1]);
    // What is left of a lease, and room for a busy machine.
    expect(performance.now() - from).toBeLessThan(LEASE_MS + 2_000);
    expect(await lost).toBeInstanceOf(Error);
  });

  it('of which one goes away: the others are answered by one query of their own', async () => {
    const [one] = peers as [Peer, Peer];
    const cancelled = ask(one, { callers: 1, abortMs: 50, ms: 200 });
    await one.next('runs 1');
    one.send({ kind: 'crowd', params, callers: CHARTS, ms: 20, version: 2, does: 'answer', options: {} });
    expect((await cancelled).ended).toEqual(['gone']);
    const others = (await one.next('answered')) as unknown as Answered;
    expect([endings([others]), others.ran]).toEqual([['2'], 1]);
  });
});

describe('an old result', () => {
  const options = { staleMs: STALE_MS };

  beforeEach(async () => {
    expect(endings(await askAll({ options }))).toEqual(['1 false']);
    const key = (await resultKey()) ?? '';
    expect(await store.command('PEXPIRE', key, STALE_MS - 1_000)).toBe(1);
  });

  const counts = () =>
    Promise.all(
      peers.map(async (peer) => {
        peer.send({ kind: 'count' });
        return (await peer.next('count')) as unknown as { ran: number; refreshes: number };
      }),
    );

  it('is answered to all of them, and one of the processes runs the query again', async () => {
    const answers = await askAll({ options, version: 2, ms: 200 });
    expect(endings(answers)).toEqual(['1 true']);
    await until(
      'it was refreshed',
      async () => Number(await store.command('PTTL', (await resultKey()) ?? '')) > STALE_MS,
    );
    const ran = (await counts()).reduce((total, one) => total + one.ran, 0);
    expect(ran).toBe(1);
    expect(endings(await askAll({ options, version: 3 }))).toEqual(['2 false']);
  });

  it('is refreshed by the other one when the one that does so is killed', async () => {
    const [one, other] = peers as [Peer, Peer];
    expect(endings([await ask(one, { options, version: 2, ms: 60_000 })])).toEqual(['1 true']);
    await one.next('runs 2');
    await one.kill();
    // As long as the lease of the dead one lives nobody runs it, and everybody has the old result.
    expect(await ask(other, { options, version: 3, ms: 20 })).toMatchObject({
      ended: new Array(CHARTS).fill('1 true'),
      ran: 0,
    });
    await until('the lease has ended', async () => {
      const { ended } = await ask(other, { options, version: 3, ms: 20, callers: 1 });
      return ended[0] === '3 false';
    });
  });
});
