/**
 * The judge of the limiter tests: from what all processes report, how much must have been admitted within one window, and
 * which denials nothing explains. Knows no limiter: the moment of a decision is only known to lie between sending and
 * answer. Invariant: what it calls a violation is one, whenever within these bounds each decision was made.
 */
import type { LimiterMetrics } from '../../index.js';
import type { Message, Peer } from './processes.js';

/** What is asked again and again, by every process. */
export interface Lane {
  readonly type: string;
  readonly identifier: string;
  readonly limit: number;
  readonly windowMs: number;
  /** A check costs between 1 and this. */
  readonly mostCost: number;
  /** Most checks in a row, and the longest pause before the next ones. */
  readonly burst: number;
  readonly pauseMs: number;
}

/** What one process saw: lane, sent, answered, cost and state of each check. */
export interface Report extends Message {
  readonly checks: Float64Array;
  readonly errors: Readonly<Record<string, number>>;
  readonly metrics: LimiterMetrics;
}

export interface Check {
  readonly sentUs: number;
  readonly answeredUs: number;
  readonly cost: number;
  readonly allowed: boolean;
  readonly degraded: boolean;
}

/**
 * The server counts in whole milliseconds, of another clock than the one that measures: what it takes for a window may be
 * shorter by so much.
 */
const GRAIN_MS = 2;
const FIELDS = 5;

export const reportsOf = async (peers: readonly Peer[]): Promise<Report[]> =>
  Promise.all(peers.map(async (peer) => (await peer.next('report')) as Report));

/** The checks of one lane by all processes. */
export function checksOf(reports: readonly Report[], lane: number): Check[] {
  const found: Check[] = [];
  for (const { checks } of reports) {
    for (let at = 0; at < checks.length; at += FIELDS) {
      const [of, sentUs = 0, answeredUs = 0, cost = 0, state = 0] = checks.subarray(at, at + FIELDS);
      if (of !== lane) continue;
      found.push({ sentUs, answeredUs, cost, allowed: (state & 1) > 0, degraded: (state & 2) > 0 });
    }
  }
  return found;
}

export const costOf = (checks: readonly Check[]): number => checks.reduce((sum, { cost }) => sum + cost, 0);

/** How many of `sorted` are below `bound`. */
function below(sorted: Float64Array, bound: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] as number) < bound) low = middle + 1;
    else high = middle;
  }
  return low;
}

const sorted = (values: readonly number[]): Float64Array => Float64Array.from(values).sort();

/** The largest sum of costs that was sent and answered within one window. */
export function worst(admitted: readonly Check[], windowMs: number): number {
  const windowUs = (windowMs - GRAIN_MS) * 1_000;
  const answers = sorted(admitted.map(({ answeredUs }) => answeredUs));
  // Sums by rank of the answer, of those that were sent at `sentUs` or later: a Fenwick tree.
  const sums = new Float64Array(answers.length + 1);
  let most = 0;
  for (const one of [...admitted].sort((a, b) => b.sentUs - a.sentUs)) {
    for (let at = below(answers, one.answeredUs) + 1; at < sums.length; at += at & -at)
      sums[at] = (sums[at] as number) + one.cost;
    let sum = 0;
    for (let at = below(answers, one.sentUs + windowUs); at > 0; at -= at & -at) sum += sums[at] as number;
    most = Math.max(most, sum);
  }
  return most;
}

/** Running sums of costs, by the times of the checks. */
class Sums {
  readonly #times: Float64Array;
  readonly #sums: Float64Array;

  constructor(checks: readonly Check[], time: (check: Check) => number) {
    const ordered = [...checks].sort((a, b) => time(a) - time(b));
    this.#times = Float64Array.from(ordered, time);
    this.#sums = new Float64Array(ordered.length + 1);
    for (const [at, { cost }] of ordered.entries()) this.#sums[at + 1] = (this.#sums[at] as number) + cost;
  }

  before(timeUs: number): number {
    return this.#sums[below(this.#times, timeUs)] as number;
  }
}

/** The denials that came although, whenever the decisions were made, there was room: what was admitted may count so long. */
export function unexplained(checks: readonly Check[], limit: number, countsMs: number): Check[] {
  const admitted = checks.filter(({ allowed }) => allowed);
  const sent = new Sums(admitted, ({ sentUs }) => sentUs);
  const answered = new Sums(admitted, ({ answeredUs }) => answeredUs);
  const countsUs = (countsMs + GRAIN_MS) * 1_000;
  return checks.filter(({ allowed, sentUs, answeredUs, cost }) => {
    if (allowed) return false;
    // At most this can have been decided before it and count still.
    const counted = sent.before(answeredUs) - answered.before(sentUs - countsUs);
    return counted + cost <= limit;
  });
}
