/**
 * One limit as an object: the class that S1 names. Not a limiter of its own: it asks an engine.
 * Invariant: two of them with different limits never share what they count, unless they are given one name.
 */

import type * as Public from '../../index.js';
import { getEngine } from '../engines.js';
import { InvalidArgumentError } from '../errors.js';

export class RedisRateLimiter implements Public.RedisRateLimiter {
  readonly windowMs: number;
  readonly maxRequests: number;
  readonly name: string;
  readonly #onStoreFailure: Public.OnStoreFailure | undefined;
  readonly #engine: Public.Engine | undefined;

  constructor(windowMs: number, maxRequests: number, options: Public.RedisRateLimiterOptions = {}) {
    if (!(Number.isInteger(windowMs) && windowMs >= 1 && windowMs <= 2_147_483_647)) {
      const accepted = 'a whole number of milliseconds between 1 and 2147483647 is expected';
      throw new InvalidArgumentError(`windowMs is not accepted: ${accepted}`, { field: 'windowMs' });
    }
    if (!(Number.isInteger(maxRequests) && maxRequests >= 1 && maxRequests <= 1_000_000_000)) {
      const accepted = 'a whole number between 1 and 1000000000 is expected';
      throw new InvalidArgumentError(`maxRequests is not accepted: ${accepted}`, { field: 'maxRequests' });
    }
    this.windowMs = windowMs;
    this.maxRequests = maxRequests;
    this.name = options.name ?? `${maxRequests}/${windowMs}ms`;
    this.#onStoreFailure = options.onStoreFailure;
    this.#engine = options.engine;
  }

  async checkLimit(identifier: string, options?: Public.RateLimitOptions): Promise<Public.LimiterResult> {
    const engine = this.#engine ?? getEngine();
    const given = { ...options, onStoreFailure: options?.onStoreFailure ?? this.#onStoreFailure };
    const seconds = this.windowMs / 1_000;
    const result = await engine.checkRateLimit(this.name, identifier, this.maxRequests, seconds, given);
    return { ...result, success: result.allowed };
  }

  async resetLimit(identifier: string, options?: Public.CallOptions): Promise<Public.InvalidationResult> {
    return (this.#engine ?? getEngine()).resetRateLimit(this.name, identifier, options);
  }
}
