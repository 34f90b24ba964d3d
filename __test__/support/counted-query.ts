/**
 * A data source of its own whose query counts how often it ran, with a version that a test changes, and a hold that keeps
 * it running. Not a cache and not a judge.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

export interface VersionRow {
  readonly version: number;
}

export class CountedQuery {
  /** Without an end date: a result lives for a minute. */
  readonly params = { dataSourceId: randomUUID() };
  version = 1;
  ran = 0;
  running = 0;
  mostRunning = 0;
  ms = 0;
  /** Rows beside the one with the version. */
  filler = 0;
  failure: Error | undefined;
  #hold: Promise<void> | undefined;

  /** The query, to be passed on as it is. */
  readonly query = async (): Promise<{ data: VersionRow[]; query_time_ms: number }> => {
    this.ran += 1;
    this.running += 1;
    this.mostRunning = Math.max(this.mostRunning, this.running);
    const { version } = this;
    try {
      await this.#hold;
      if (this.ms > 0) await sleep(this.ms);
      if (this.failure !== undefined) throw this.failure;
      return { data: Array.from({ length: 1 + this.filler }, () => ({ version })), query_time_ms: 7 };
    } finally {
      this.running -= 1;
    }
  };

  /** Queries that begin from now on do not end before what this answers is called. */
  hold(): () => void {
    let release = () => {};
    this.#hold = new Promise((resolve) => {
      release = resolve;
    });
    return () => {
      this.#hold = undefined;
      release();
    };
  }
}

export const versionOf = (result: { readonly data: readonly VersionRow[] }): number | undefined =>
  result.data[0]?.version;
