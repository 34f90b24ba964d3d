/**
 * The limiters that are compared, each as the question an application asks: may this identifier go on?
 * - bcos-cache, `checkRateLimit`. Exact up to 1,000 per window, above that buckets of a twentieth of the window; the clock is
 *   the server's. The checks of one turn of the event loop travel together, those of one identifier as one script. What was
 *   denied is denied without a command until the time at which it can be admitted.
 * - rate-limiter-flexible, `RateLimiterRedis` on ioredis as its documentation sets it up. A counter per window, which begins
 *   with the first check of an identifier and lasts whole seconds. One script per check, denied or not. With
 *   `inMemoryBlockOnConsumed` a process that saw the limit reached denies by itself until the window ends.
 * - a sliding window of two buckets, see `two-buckets.mjs`.
 * Auto-pipelining is an option of ioredis that neither documentation asks for; it is the most that can be had from it.
 *
 * Invariant: one connection for commands each, one server, and the same wrapper: a check answers a boolean, and one that was
 * decided without the store is an error.
 */

import { once } from 'node:events';
import { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { OUR_PREFIX, PEER_PREFIX, withEngines } from './data.mjs';
import { twoBuckets } from './two-buckets.mjs';

/**
 * @typedef {object} Limiter
 * @property {string} name
 * @property {number} limit
 * @property {string} prefix what all its keys begin with
 * @property {(identifier: string) => Promise<boolean>} check
 *
 * @typedef {object} Rule
 * @property {string} type names the count
 * @property {number} limit
 * @property {number} windowSeconds
 *
 * @typedef {(rule: Rule) => Limiter} Make
 * @typedef {{ ours: Make, flexible: Make, flexiblePipelining: Make, flexibleBlocking: Make, twoBuckets: Make,
 *   twoBucketsBlocking: Make }} Makers
 */

export const FLEXIBLE = 'rate-limiter-flexible';
export const FLEXIBLE_PIPELINING = `${FLEXIBLE}, ioredis auto-pipelining`;
export const OURS = 'bcos-cache `checkRateLimit`';
export const TWO_BUCKETS = 'sliding window of two buckets, as @upstash/ratelimit computes it';

/** @param {Limiter} limiter */
export const nameWithLimit = ({ name, limit }) => `${name}, limit ${limit.toLocaleString('en-US')}`;

/** Limiters of one rule must not count together, and keys of one length are compared. @param {Rule} rule @param {string} mark */
const typeOf = ({ type }, mark) => `${type}-${mark}`;
const prefixOf = (/** @type {Rule} */ rule, /** @type {string} */ mark) =>
  `${PEER_PREFIX}ratelimit:${typeOf(rule, mark)}`;

/** @param {import('../index.js').Engine} engine @returns {Make} */
const own = (engine) => (rule) => {
  const { limit, windowSeconds } = rule;
  const type = typeOf(rule, 'o');
  const check = async (/** @type {string} */ identifier) => {
    const { allowed, degraded } = await engine.checkRateLimit(type, identifier, limit, windowSeconds);
    if (degraded) throw new Error('decided without the store');
    return allowed;
  };
  return { name: OURS, limit, prefix: `${OUR_PREFIX}ratelimit:${type}`, check };
};

/** @param {string} name @param {string} mark @param {Redis} storeClient @param {boolean} [blocking] @returns {Make} */
const flexible = (name, mark, storeClient, blocking) => (rule) => {
  const { limit, windowSeconds } = rule;
  const prefix = prefixOf(rule, mark);
  const limiter = new RateLimiterRedis({
    storeClient,
    keyPrefix: prefix,
    points: limit,
    duration: windowSeconds,
    ...(blocking ? { inMemoryBlockOnConsumed: limit } : {}),
  });
  const check = async (/** @type {string} */ identifier) => {
    try {
      await limiter.consume(identifier);
      return true;
    } catch (denied) {
      if (denied instanceof Error) throw denied;
      return false;
    }
  };
  return { name, limit, prefix, check };
};

/** @param {string} name @param {string} mark @param {Redis} redis @param {boolean} [remember] @returns {Make} */
const buckets = (name, mark, redis, remember) => (rule) => {
  const { limit, windowSeconds } = rule;
  const prefix = prefixOf(rule, mark);
  const check = twoBuckets(redis, { prefix, limit, windowMs: windowSeconds * 1_000, remember });
  return { name, limit, prefix, check };
};

/**
 * @template T
 * @param {{ host: string, port: number }} server @param {(makers: Makers) => Promise<T>} body
 */
export async function withLimiters(server, body) {
  const { host, port } = server;
  const plain = new Redis({ host, port, enableOfflineQueue: false });
  const pipelining = new Redis({ host, port, enableOfflineQueue: false, enableAutoPipelining: true });
  try {
    await Promise.all([once(plain, 'ready'), once(pipelining, 'ready')]);
    return await withEngines(server, [{}], (engine) =>
      body({
        ours: own(engine),
        flexible: flexible(FLEXIBLE, 'f', plain),
        flexiblePipelining: flexible(FLEXIBLE_PIPELINING, 'p', pipelining),
        flexibleBlocking: flexible(`${FLEXIBLE}, \`inMemoryBlockOnConsumed\``, 'b', plain, true),
        twoBuckets: buckets(TWO_BUCKETS, 't', plain),
        twoBucketsBlocking: buckets(`${TWO_BUCKETS}, with its cache of denials`, 'c', plain, true),
      }),
    );
  } finally {
    plain.disconnect();
    pipelining.disconnect();
  }
}
