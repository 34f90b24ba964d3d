/**
 * One warm in a process of its own: what it took, by how much memory grew, for how long the event loop stood still. Started
 * by `analytics-warm.mjs`, and measured from inside because only the process knows.
 * Invariant: connections are open and garbage is collected before the clock starts, for everybody.
 */

import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { AnalyticsCacheV2, createEngine } from '../index.js';
import { DATA_SOURCE } from './analytics-data.mjs';
import { collectGarbage } from './measure.mjs';
import { SeedIndex } from './seed-index.mjs';

/**
 * @typedef {{ who: 'ours' | 'seed' | 'written', host: string, port: number, url: string, prefix: string }} Order
 *
 * @typedef {object} Warmed
 * @property {number} ms
 * @property {number} rssGrowthMb peak of the process, as the system counts it, over what it had before
 * @property {number} delayP99Ms
 * @property {number} delayMaxMs
 * @property {Record<string, number>} result what the warm itself says
 */

/** @param {Order} order @returns {Promise<{ run: () => Promise<Record<string, number>>, close: () => Promise<void> }>} */
async function prepare({ who, host, port, url, prefix }) {
  if (who !== 'ours') {
    const index = new SeedIndex({ host, port, url, prefix, dataSource: DATA_SOURCE });
    await Promise.all([index.redis.ping(), index.pool.query('SELECT 1')]);
    return { run: () => index.warm(who === 'written'), close: () => index.close() };
  }
  const engine = createEngine({ redisHost: host, redisPort: port, redisKeyPrefix: prefix, databaseUrl: url });
  const cache = new AnalyticsCacheV2(engine);
  await connected(engine);
  const run = async () => {
    const { entriesCached, totalRows, generation, framesWritten, framesReused, ...rest } =
      await cache.warmCache(DATA_SOURCE, { force: true });
    if (rest.skipped === true || 'held' in rest)
      throw new Error(`the warm published nothing: ${JSON.stringify(rest)}`);
    return { entriesCached, totalRows, generation, framesWritten, framesReused };
  };
  return { run, close: () => engine.close() };
}

/** Until its store is in service and its source has answered. @param {import('../index.js').Engine} engine */
async function connected(engine) {
  for (let tries = 0; !engine.getMetrics().store.connected; tries += 1) {
    if (tries === 200) throw new Error('the store did not connect');
    await engine.isTokenBlacklisted(`bench-connect-${tries}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}

/**
 * The most memory that this program has had, in bytes. Linux counts into maxRSS what the parent had when it started this
 * process, which is hundreds of megabytes of another program.
 */
function peakRss() {
  try {
    const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
    if (kilobytes !== undefined) return Number(kilobytes) * 1_024;
  } catch {
    // Another system, whose maxRSS is its own.
  }
  return process.resourceUsage().maxRSS * 1_024;
}

/** @param {Order} order @returns {Promise<Warmed>} */
async function measure(order) {
  const { run, close } = await prepare(order);
  collectGarbage();
  const before = process.memoryUsage.rss();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const from = performance.now();
  const result = await run();
  const ms = performance.now() - from;
  // A loop that stood still until now has its longest turn counted in the next one.
  await new Promise((resolve) => setTimeout(resolve, 5));
  delay.disable();
  await close();
  return {
    ms,
    rssGrowthMb: (peakRss() - before) / 1e6,
    delayP99Ms: delay.percentile(99) / 1e6,
    delayMaxMs: delay.max / 1e6,
    result,
  };
}

process.once('message', async (order) => {
  try {
    process.send?.({ warmed: await measure(/** @type {Order} */ (order)) }, () => process.exit(0));
  } catch (error) {
    process.send?.({ error: error instanceof Error ? error.stack : String(error) }, () => process.exit(1));
  }
});
