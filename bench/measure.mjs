/**
 * The stopwatch: runs calls in a closed loop and reads the clocks around them. It knows no cache and no peer.
 * Invariant: every variant of a comparison runs in the same driver, in the same process, by turns, its first round is
 * thrown away, and a round that counts something is not a timed one.
 * Why the turns are our own, and what a public tool measures within them: `docs/decisions/8-measuring.md`.
 */

import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { short } from './short.mjs';

/**
 * @typedef {object} Variant
 * @property {string} name
 * @property {(index: number) => Promise<unknown>} call what is measured; `index` chooses the key
 * @property {(answer: unknown, index: number) => boolean} right whether an answer is the right one
 * @property {(answer: unknown, index: number) => boolean} [glance] the same where `right` would take longer than the
 * call: what is looked at while the clock runs
 * @property {() => Promise<unknown>} [prepare] before every round, outside of it
 * @property {() => Record<string, number>} [meters] counters that only grow, read around every round
 *
 * @typedef {object} Sample
 * @property {number} calls
 * @property {number} opsPerSecond
 * @property {number} p50Us
 * @property {number} p99Us
 * @property {number | null} jsCpuUs CPU time of the JavaScript thread per call; null where the system does not tell
 * @property {number} processCpuUs CPU time of the whole client process per call
 *
 * @typedef {object} Plan
 * @property {number} concurrency
 * @property {number} keys
 * @property {number} rounds counted ones, the discarded first not included
 * @property {number} roundMs
 *
 * @typedef {Record<string, number>} Counts per call
 * @typedef {Sample & { name: string, group?: string, rounds: Sample[], counts?: Counts }} Row rows of one group are compared with each other
 * @typedef {(round: () => Promise<number>) => Promise<Counts>} Counter runs a round, which answers its number of calls
 */

setFlagsFromString('--expose-gc');
/** @type {() => void} */
export const collectGarbage = runInNewContext('gc');

/** One call in so many is timed, and one in so many of those checked: looking must not be what is measured. */
const SAMPLED = 8;

/** CPU time of this thread in microseconds, or null. */
export function threadCpuUs() {
  const usage = /** @type {{ threadCpuUsage?: () => NodeJS.CpuUsage }} */ (process).threadCpuUsage?.();
  if (usage) return usage.user + usage.system;
  try {
    return Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1').split(' ')[0]) / 1_000;
  } catch {
    return null;
  }
}

function processCpuUs() {
  const { user, system } = process.cpuUsage();
  return user + system;
}

/** @param {number[]} sorted @param {number} share */
function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

/** @param {number[]} values */
export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? /** @type {number} */ (sorted[middle])
    : (Number(sorted[middle - 1]) + Number(sorted[middle])) / 2;
}

/** Asks every key once and compares. @param {Variant} variant @param {number} keys */
export async function verify({ name, call, right, prepare }, keys) {
  await prepare?.();
  for (let from = 0; from < keys; from += 100) {
    const indexes = Array.from({ length: Math.min(100, keys - from) }, (_, n) => from + n);
    await Promise.all(
      indexes.map(async (index) => {
        const answer = await call(index);
        if (!right(answer, index)) throw wrong(name, index, answer);
      }),
    );
  }
}

/** @param {string} name @param {number} index @param {unknown} answer */
function wrong(name, index, answer) {
  return new Error(
    `wrong answer of "${name}" for key ${index}: ${String(JSON.stringify(answer)).slice(0, 500)}`,
  );
}

/** So many callers, each of which asks again as soon as it is answered. @param {Variant} variant @param {Plan} plan */
async function closedLoop({ name, call, right, glance = right }, { concurrency, keys, roundMs }) {
  const every = concurrency === 1 ? 1 : SAMPLED;
  /** @type {number[]} */
  const latencies = [];
  let sent = 0;
  const cpu = cpuNow();
  const start = performance.now();
  const end = start + roundMs;
  const caller = async () => {
    let now = start;
    while (now < end) {
      for (let n = 1; n < every; n += 1) await call(sent++ % keys);
      const index = sent++ % keys;
      const before = performance.now();
      const answer = await call(index);
      now = performance.now();
      latencies.push(now - before);
      if (latencies.length % SAMPLED === 0 && !glance(answer, index)) throw wrong(name, index, answer);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return sample(sent, start, cpu, latencies);
}

/** One call after the other, too short to be timed each; in batches, by mitata. @param {Variant} variant @param {Plan} plan */
async function shortCalls(variant, plan) {
  const cpu = cpuNow();
  const start = performance.now();
  const { calls, meanUs, p50Us, p99Us } = await short(variant, plan);
  return { ...sample(calls, start, cpu, []), opsPerSecond: 1e6 / meanUs, p50Us, p99Us };
}

/** The same without a stopwatch: nothing but the calls allocates. @param {Variant} variant @param {Plan} plan */
async function inSequence({ call }, { keys, roundMs }) {
  let calls = 0;
  const cpu = cpuNow();
  const start = performance.now();
  const end = start + roundMs;
  let now = start;
  while (now < end) {
    for (let index = 0; index < keys; index += 1) await call(index);
    calls += keys;
    now = performance.now();
  }
  return sample(calls, start, cpu, []);
}

/** Every key once, so many callers at a time: for calls that change what the next one finds. @param {Variant} variant @param {Plan} plan */
async function onceEach({ name, call, right, glance = right }, { concurrency, keys }) {
  /** @type {number[]} */
  const latencies = [];
  let next = 0;
  const cpu = cpuNow();
  const start = performance.now();
  const caller = async () => {
    while (next < keys) {
      const index = next++;
      const before = performance.now();
      const answer = await call(index);
      latencies.push(performance.now() - before);
      if (latencies.length % SAMPLED === 0 && !glance(answer, index)) throw wrong(name, index, answer);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  return sample(keys, start, cpu, latencies);
}

const drivers = { 'closed loop': closedLoop, 'in sequence': shortCalls, 'once each': onceEach };
/** What drives the round that counts. */
const counting = { ...drivers, 'in sequence': inSequence };

function cpuNow() {
  return { thread: threadCpuUs(), process: processCpuUs() };
}

/**
 * What a round took that ends now.
 * @param {number} calls @param {number} start @param {ReturnType<typeof cpuNow>} cpu @param {number[]} latencies
 * @returns {Sample}
 */
function sample(calls, start, cpu, latencies) {
  const elapsedMs = performance.now() - start;
  const now = cpuNow();
  latencies.sort((a, b) => a - b);
  return {
    calls,
    opsPerSecond: (calls / elapsedMs) * 1_000,
    p50Us: quantile(latencies, 0.5) * 1_000,
    p99Us: quantile(latencies, 0.99) * 1_000,
    jsCpuUs: now.thread === null || cpu.thread === null ? null : (now.thread - cpu.thread) / calls,
    processCpuUs: (now.process - cpu.process) / calls,
  };
}

/** @param {Sample[]} samples @returns {Sample} */
function medians(samples) {
  const of = (/** @type {keyof Sample} */ name) => median(samples.map((sample) => Number(sample[name])));
  const jsCpuUs = samples.some((sample) => sample.jsCpuUs === null) ? null : of('jsCpuUs');
  return {
    calls: of('calls'),
    opsPerSecond: of('opsPerSecond'),
    p50Us: of('p50Us'),
    p99Us: of('p99Us'),
    jsCpuUs,
    processCpuUs: of('processCpuUs'),
  };
}

/**
 * What is counted for a variant: by its own meters over the timed rounds, by `counter` in a round of its own.
 * @param {Variant} variant @param {Counts[]} metered @param {Counter | undefined} counter @param {() => Promise<Sample>} drive
 * @returns {Promise<Counts>}
 */
async function countsOf(variant, metered, counter, drive) {
  await variant.prepare?.();
  collectGarbage();
  const counted = (await counter?.(async () => (await drive()).calls)) ?? {};
  const names = Object.keys(metered[0] ?? {});
  const own = names.map((name) => [name, median(metered.map((counts) => Number(counts[name])))]);
  return { ...Object.fromEntries(own), ...counted };
}

/**
 * Measures the variants by turns: A B C A B C. Answers are checked before, and sampled ones during.
 * @param {Variant[]} variants @param {Plan} plan @param {keyof typeof drivers} [driver] @param {Counter} [counter]
 * @returns {Promise<Row[]>}
 */
export async function compare(variants, plan, driver = 'closed loop', counter = undefined) {
  const taken = variants.map((variant) => ({
    variant,
    rounds: /** @type {Sample[]} */ ([]),
    metered: /** @type {Counts[]} */ ([]),
  }));
  for (const variant of variants) await verify(variant, plan.keys);
  for (let round = 0; round <= plan.rounds; round += 1) {
    for (const { variant, rounds, metered } of taken) {
      await variant.prepare?.();
      collectGarbage();
      const before = variant.meters?.() ?? {};
      const one = await drivers[driver](variant, plan);
      const after = variant.meters?.() ?? {};
      if (round === 0) continue;
      rounds.push(one);
      const grown = Object.keys(after).map((name) => [
        name,
        (Number(after[name]) - Number(before[name])) / one.calls,
      ]);
      metered.push(Object.fromEntries(grown));
    }
  }
  const rows = [];
  for (const { variant, rounds, metered } of taken) {
    const counts = await countsOf(variant, metered, counter, () => counting[driver](variant, plan));
    const row = { name: variant.name, ...medians(rounds), rounds };
    rows.push(Object.keys(counts).length > 0 ? { ...row, counts } : row);
  }
  for (const variant of variants) await verify(variant, plan.keys);
  return rows;
}
