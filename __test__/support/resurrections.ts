/**
 * The judge of the resurrection test: from what all processes report, the reads that gave an answer older than an
 * invalidation which had resolved before they started. Knows no cache. Invariant: times are of one clock.
 */
import type { MetricsSnapshot } from '../../index.js';
import type { Message } from './processes.js';

/** What one process saw; `reads` and `acknowledged` are triples of key number, time in ns, version. */
export interface Report extends Message {
  readonly keys: readonly string[];
  readonly reads: Float64Array;
  readonly acknowledged: Float64Array;
  readonly unacknowledged: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly metrics: MetricsSnapshot | undefined;
}

interface Event {
  readonly key: string;
  readonly atNs: number;
  readonly version: number;
}

/** A read that started after `acknowledgedNs` and gave `version` although `atLeast` was in effect. */
export interface Resurrection {
  readonly key: string;
  readonly version: number;
  readonly atLeast: number;
  readonly process: number;
  readonly lateByUs: number;
}

function* events(keys: readonly string[], triples: Float64Array): Generator<Event> {
  for (let at = 0; at < triples.length; at += 3) {
    const key = keys[triples[at] as number] as string;
    yield { key, atNs: triples[at + 1] as number, version: triples[at + 2] as number };
  }
}

/** The last invalidation that had resolved before `atNs`. */
function inEffect(invalidations: readonly Event[], atNs: number): Event | undefined {
  let [low, high] = [0, invalidations.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((invalidations[middle] as Event).atNs < atNs) low = middle + 1;
    else high = middle;
  }
  return invalidations[low - 1];
}

export function resurrections(reports: readonly Report[]): Resurrection[] {
  const byKey = new Map<string, Event[]>();
  for (const report of reports) {
    for (const event of events(report.keys, report.acknowledged)) {
      const known = byKey.get(event.key);
      if (known === undefined) byKey.set(event.key, [event]);
      else known.push(event);
    }
  }
  // A key has one writer, so its versions grow with time.
  for (const invalidations of byKey.values()) invalidations.sort((one, other) => one.atNs - other.atNs);
  const found: Resurrection[] = [];
  for (const [process, report] of reports.entries()) {
    for (const { key, atNs, version } of events(report.keys, report.reads)) {
      const last = inEffect(byKey.get(key) ?? [], atNs);
      if (last === undefined || version >= last.version) continue;
      const lateByUs = Math.round((atNs - last.atNs) / 1_000);
      found.push({ key, version, atLeast: last.version, process, lateByUs });
    }
  }
  return found;
}
