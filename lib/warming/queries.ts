/**
 * The last part of a warm-up: the application's queries, through the cache of results. Not whether a query runs at all:
 * what is cached is not run again.
 * Invariant: so many at a time; one that fails is counted and stops nobody; nothing here rejects.
 */

import type { DataSources } from '../datasource/results.js';
import type { NativeEngine } from '../native.js';
import { type Plan, readSources, type Source } from './options.js';

export class Queries {
  readonly #native: NativeEngine;
  readonly #results: DataSources;
  readonly #job: number;
  /** Ends the waiting for queries when the warm-up has ended, whyever. */
  readonly #over = new AbortController();
  #begun = false;
  #done = 0;
  #errors = 0;
  #total = 0;

  constructor(native: NativeEngine, results: DataSources, job: number) {
    this.#native = native;
    this.#results = results;
    this.#job = job;
  }

  /** Begins, once. */
  begin(sources: Plan['sources'], atOnce: number): void {
    if (this.#begun) return;
    this.#begun = true;
    void this.#all(sources, atOnce);
  }

  end(): void {
    this.#over.abort();
  }

  async #all(sources: Plan['sources'], atOnce: number): Promise<void> {
    const list = await this.#list(sources);
    this.#report();
    const rest = list.values();
    const lanes = Array.from({ length: Math.min(atOnce, list.length) }, () => this.#lane(rest));
    await Promise.all(lanes);
    if (this.#over.signal.aborted) return;
    const all = this.#done === this.#total;
    this.#native.tellWarming(this.#job, all ? null : 'store_unavailable');
  }

  /** Reads the list, or has it made; one that cannot be had is one failed item. */
  async #list(sources: Plan['sources']): Promise<readonly Source[]> {
    try {
      const list =
        typeof sources === 'function' ? readSources(await sources(this.#results.mostUsed())) : sources;
      this.#total = list.length;
      return list;
    } catch {
      [this.#done, this.#errors, this.#total] = [1, 1, 1];
      return [];
    }
  }

  async #lane(rest: Iterator<Source>): Promise<void> {
    for (;;) {
      // Without the store nothing would be kept: the application is spared the rest.
      if (this.#over.signal.aborted || !this.#native.available()) return;
      const next = rest.next();
      if (next.done === true) return;
      const { params, userOrganizations, queryFunction, options } = next.value;
      try {
        // As text: nobody looks at it here, so nothing is parsed.
        const asked = { ...options, raw: true, signal: this.#over.signal };
        await this.#results.warm(params, userOrganizations, queryFunction, asked);
      } catch {
        if (this.#over.signal.aborted) return;
        this.#errors += 1;
      }
      this.#done += 1;
      this.#report();
    }
  }

  #report(): void {
    this.#native.reportWarming(this.#job, this.#done, this.#total, this.#errors);
  }
}
