/**
 * Sliding window of two buckets, as @upstash/ratelimit computes it: the counter of this bucket of the clock plus a share of
 * the one before, as large as the part of it that the window still covers. Written here for ioredis, not that package: its
 * own scripts are made for the service of its maker, asked over HTTP. Like there, the time is the client's, and a process
 * that was denied may deny by itself until the bucket ends.
 * Invariant: one script per check. Its two keys lie on two nodes of a cluster, so it runs on one server only.
 */

/** @typedef {import('ioredis').Redis & { twoBuckets(current: string, previous: string, limit: number, windowMs: number, passedMs: number): Promise<number> }} Client */

const SCRIPT = `
local limit, window, passed = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local here = tonumber(redis.call('GET', KEYS[1])) or 0
local before = tonumber(redis.call('GET', KEYS[2])) or 0
local covered = math.floor(before * (1 - passed / window))
if here + covered >= limit then return -1 end
here = redis.call('INCRBY', KEYS[1], 1)
if here == 1 then redis.call('PEXPIRE', KEYS[1], 2 * window + 1000) end
return limit - here - covered
`;

/**
 * A check that answers whether it is admitted.
 * @param {import('ioredis').Redis} redis
 * @param {{ prefix: string, limit: number, windowMs: number, remember?: boolean | undefined }} options
 */
export function twoBuckets(redis, { prefix, limit, windowMs, remember }) {
  redis.defineCommand('twoBuckets', { numberOfKeys: 2, lua: SCRIPT });
  const client = /** @type {Client} */ (redis);
  /** @type {Map<string, number>} */
  const blocked = new Map();
  return async (/** @type {string} */ identifier) => {
    const now = Date.now();
    if (remember) {
      const until = blocked.get(identifier);
      if (until !== undefined && until > now) return false;
      blocked.delete(identifier);
    }
    const bucket = Math.floor(now / windowMs);
    const key = (/** @type {number} */ number) => `${prefix}:${identifier}:${number}`;
    const left = await client.twoBuckets(key(bucket), key(bucket - 1), limit, windowMs, now % windowMs);
    if (left < 0 && remember) blocked.set(identifier, (bucket + 1) * windowMs);
    return left >= 0;
  };
}
