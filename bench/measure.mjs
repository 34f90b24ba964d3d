/**
 * The stopwatch: runs calls in a closed loop and reads the clocks around them. It knows no cache and no peer.
 * Invariant: every variant of a comparison runs in the same driver, in the same process, by turns, and its first
 * round is thrown away.
 */

import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * @typedef {object} Variant
 * @property {string} name
 * @property {(index: number) => Promise<unknown>} call what is measured; `index` chooses the key
 * @property {(answer: unknown, index: number) => boolean} right whether an answer is the right one
 *
 * @typedef {object} Sample
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
 */

setFlagsFromString('--expose-gc');
/** @type {() => void} */
const collectGarbage = runInNewContext('gc');

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
export async function verify({ name, call, right }, keys) {
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
  return new Error(`wrong answer of "${name}" for key ${index}: ${JSON.stringify(answer)}`);
}

/** So many callers, each of which asks again as soon as it is answered. @param {Variant} variant @param {Plan} plan */
async function closedLoop({ name, call, right }, { concurrency, keys, roundMs }) {
  const every = concurrency === 1 ? 1 : SAMPLED;
  /** @type {number[]} */
  const latencies = [];
  let sent = 0;
  collectGarbage();
  const cpu = { thread: threadCpuUs(), process: processCpuUs() };
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
      if (latencies.length % SAMPLED === 0 && !right(answer, index)) throw wrong(name, index, answer);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, caller));
  const elapsedMs = performance.now() - start;
  const thread = threadCpuUs();
  latencies.sort((a, b) => a - b);
  return {
    opsPerSecond: (sent / elapsedMs) * 1_000,
    p50Us: quantile(latencies, 0.5) * 1_000,
    p99Us: quantile(latencies, 0.99) * 1_000,
    jsCpuUs: thread === null || cpu.thread === null ? null : (thread - cpu.thread) / sent,
    processCpuUs: (processCpuUs() - cpu.process) / sent,
  };
}

/** One call after the other, the clock read once per pass over the keys. @param {Variant} variant @param {Plan} plan */
async function inSequence({ call }, { keys, roundMs }) {
  let calls = 0;
  collectGarbage();
  const cpu = { thread: threadCpuUs(), process: processCpuUs() };
  const start = performance.now();
  const end = start + roundMs;
  let now = start;
  while (now < end) {
    for (let index = 0; index < keys; index += 1) await call(index);
    calls += keys;
    now = performance.now();
  }
  const thread = threadCpuUs();
  return {
    opsPerSecond: (calls / (now - start)) * 1_000,
    p50Us: Number.NaN,
    p99Us: Number.NaN,
    jsCpuUs: thread === null || cpu.thread === null ? null : (thread - cpu.thread) / calls,
    processCpuUs: (processCpuUs() - cpu.process) / calls,
  };
}

/** @param {Sample[]} samples @returns {Sample} */
function medians(samples) {
  const of = (/** @type {keyof Sample} */ name) => median(samples.map((sample) => Number(sample[name])));
  const jsCpuUs = samples.some((sample) => sample.jsCpuUs === null) ? null : of('jsCpuUs');
  return {
    opsPerSecond: of('opsPerSecond'),
    p50Us: of('p50Us'),
    p99Us: of('p99Us'),
    jsCpuUs,
    processCpuUs: of('processCpuUs'),
  };
}

/**
 * Measures the variants by turns: A B C A B C. Answers are checked before, and sampled ones during.
 * @param {Variant[]} variants @param {Plan} plan @param {'closed loop' | 'in sequence'} [driver]
 * @returns {Promise<(Sample & { name: string, rounds: Sample[] })[]>}
 */
export async function compare(variants, plan, driver = 'closed loop') {
  /** @type {Sample[][]} */
  const rounds = variants.map(() => []);
  for (const variant of variants) await verify(variant, plan.keys);
  for (let round = 0; round <= plan.rounds; round += 1) {
    for (const [at, variant] of variants.entries()) {
      const sample = await (driver === 'closed loop' ? closedLoop : inSequence)(variant, plan);
      if (round > 0) rounds[at]?.push(sample);
    }
  }
  for (const variant of variants) await verify(variant, plan.keys);
  return variants.map(({ name }, at) => ({ name, ...medians(rounds[at] ?? []), rounds: rounds[at] ?? [] }));
}
