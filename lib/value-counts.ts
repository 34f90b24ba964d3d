/**
 * What this process did with values of the application, as S5's metrics: plain counts since the last reset. Not the
 * engine's metrics, which know tiers and latencies.
 */

import type { CacheServiceMetrics } from '../index.js';

export class ValueCounts {
  hits = 0;
  misses = 0;
  sets = 0;
  deletes = 0;
  errors = 0;
  #lastReset = new Date();

  told(): CacheServiceMetrics {
    const { hits, misses, sets, deletes, errors } = this;
    const reads = hits + misses;
    return {
      hits,
      misses,
      sets,
      deletes,
      errors,
      lastReset: new Date(this.#lastReset),
      // Nothing read is no hit.
      hitRate: reads === 0 ? 0 : Math.round((hits / reads) * 100),
      totalOperations: reads + sets + deletes,
    };
  }

  reset(): void {
    this.hits = this.misses = this.sets = this.deletes = this.errors = 0;
    this.#lastReset = new Date();
  }
}
