/**
 * `warmCache`: orders a warm-up, follows it, and runs the queries that only the application can run. Not the warming of
 * roles and contexts, which never comes to this thread.
 * Invariant: it rejects only for a bad argument and a closed engine; whatever else goes wrong is counted, so that a
 * warm-up nobody waits for cannot end a process.
 */

import type * as Public from '../../index.js';
import type { DataSources } from '../datasource/results.js';
import { ClosedError } from '../errors.js';
import type { NativeEngine } from '../native.js';
import { type Plan, readPlan } from './options.js';
import { Queries } from './queries.js';

/** As the native side tells it. */
interface News {
  readonly version: number;
  /** `null` = nothing has begun. */
  readonly stage: Public.WarmupStage | null;
  readonly done: number;
  readonly total: number;
  readonly ended: boolean;
  readonly stats: Public.WarmupStats;
}

type Why = 'cancelled' | 'deadline';

/** Whose warm-up it is. */
const MINE = 0;
const BUSY = 2;
/** As long as the native side lets one take. */
const LONGEST_MS = 600_000;

const NOTHING: Public.WarmupStats = {
  rolesWarmed: 0,
  usersWarmed: 0,
  dataSourcesWarmed: 0,
  duration: 0,
  errors: 0,
};

export class Warmer {
  readonly #native: NativeEngine;
  readonly #sources: DataSources;

  constructor(native: NativeEngine, sources: DataSources) {
    this.#native = native;
    this.#sources = sources;
  }

  async warm(options: Public.WarmupOptions | undefined): Promise<Public.WarmupStats> {
    const plan = readPlan(options, this.#native.warmingLevel());
    if (plan.level === 'none') return { ...NOTHING, skipped: true, reason: 'level_none' };
    const stop = new Stop(plan.signal, plan.deadlineMs || LONGEST_MS);
    try {
      return await this.#order(plan, stop);
    } finally {
      stop.end();
    }
  }

  /** Own warm-up, or that of somebody else if it does as much; one that does not must end first. */
  async #order(plan: Plan, stop: Stop): Promise<Public.WarmupStats> {
    const { level, users, concurrency, force, hasSources } = plan;
    for (;;) {
      if (stop.signal.aborted) return { ...NOTHING, skipped: true, ...stop.stats() };
      const [job, turn, atOnce] = this.#native.warm(level, users, concurrency, force, hasSources);
      if (turn === MINE) return this.#own(job, plan, atOnce, stop);
      const busy = turn === BUSY;
      const stats = await this.#other(job, busy ? undefined : plan.onProgress, stop);
      if (!busy) return stop.signal.aborted ? { ...stats, ...stop.stats() } : stats;
    }
  }

  /** Follows a warm-up of this call, and does its last part. */
  async #own(job: number, plan: Plan, atOnce: number, stop: Stop): Promise<Public.WarmupStats> {
    const tell = () => this.#native.tellWarming(job, stop.why);
    stop.signal.addEventListener('abort', tell, { once: true });
    const queries = new Queries(this.#native, this.#sources, job);
    try {
      return await this.#follow(job, (news) => {
        told(plan.onProgress, news);
        if (news.stage === 'dataSources' && !news.ended) queries.begin(plan.sources, atOnce);
      });
    } finally {
      stop.signal.removeEventListener('abort', tell);
      queries.end();
    }
  }

  /** Follows a warm-up of somebody else until it ends or this call is stopped; its figures until then. */
  async #other(job: number, onProgress: Plan['onProgress'], stop: Stop): Promise<Public.WarmupStats> {
    let last: Public.WarmupStats = NOTHING;
    const following = this.#follow(job, (news) => {
      last = news.stats;
      if (!stop.signal.aborted) told(onProgress, news);
    });
    return new Promise((resolve, reject) => {
      const abort = () => resolve(last);
      stop.signal.addEventListener('abort', abort, { once: true });
      following.then(resolve, reject).finally(() => stop.signal.removeEventListener('abort', abort));
    });
  }

  async #follow(job: number, heard: (news: News) => void): Promise<Public.WarmupStats> {
    let seen = 0;
    let stats: Public.WarmupStats | undefined;
    for (;;) {
      let news: News;
      try {
        news = JSON.parse(await this.#native.warming(job, seen)) as News;
      } catch (error) {
        // Closed while it ran: that is how it ended. Closed before: a call that came too late.
        if (error instanceof ClosedError && stats !== undefined) return { ...stats, reason: 'closed' };
        throw error;
      }
      stats = news.stats;
      if (news.version > seen) heard(news);
      if (news.ended) return stats;
      seen = news.version;
    }
  }
}

/** When and why the caller does not want to wait any longer. */
class Stop {
  readonly #over = new AbortController();
  readonly #given: AbortSignal | undefined;
  readonly #timer: NodeJS.Timeout;
  why: Why = 'deadline';

  constructor(given: AbortSignal | undefined, withinMs: number) {
    this.#given = given;
    this.#timer = setTimeout(() => this.#over.abort(), withinMs);
    this.#timer.unref();
    if (given?.aborted === true) this.#cancel();
    else given?.addEventListener('abort', this.#cancel, { once: true });
  }

  get signal(): AbortSignal {
    return this.#over.signal;
  }

  /** What it adds to the figures. */
  stats(): Partial<Public.WarmupStats> {
    return this.why === 'cancelled' ? { cancelled: true, reason: this.why } : { reason: this.why };
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#given?.removeEventListener('abort', this.#cancel);
  }

  readonly #cancel = (): void => {
    this.why = 'cancelled';
    this.#over.abort();
  };
}

/** Hands progress out; a listener that throws does not stop what it listens to. */
function told(onProgress: Plan['onProgress'], { stage, done, total }: News): void {
  if (stage === null) return;
  try {
    onProgress?.({ stage, done, total });
  } catch {
    // Its own affair.
  }
}
