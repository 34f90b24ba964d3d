/**
 * The limiter that everybody writes first: a counter per window that begins on the clock. Not a way to limit: it exists
 * so that a test can show that it would notice one like it. Invariant: none, which is the point.
 */
import { RespClient } from '../servers/resp.mjs';

export class NaiveLimiter {
  /** @param {number} port */
  constructor(port) {
    this.store = new RespClient({ port });
  }

  /**
   * @param {string} type @param {string} identifier @param {number} limit @param {number} windowSeconds
   * @param {{ cost?: number }} [options]
   */
  async checkRateLimit(type, identifier, limit, windowSeconds, { cost = 1 } = {}) {
    const windowMs = windowSeconds * 1_000;
    const key = `naive:${type}:${identifier}:${Math.floor(Date.now() / windowMs)}`;
    const counted = Number(await this.store.command('INCRBY', key, cost));
    return { allowed: counted <= limit, degraded: false };
  }

  close() {
    this.store.close();
  }
}
