/**
 * One process of the data source tests: callers of one result at once, on command, whose query behaves as told. It
 * reports how often its query ran and how each call ended. Not a judge. Invariant: it never ends before all its callers
 * have an answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import bcos from '../../index.js';

/**
 * @typedef {{ params: object, callers: number, ms: number, version: number, does: 'answer' | 'reject',
 *   abortMs?: number, options: import('../../index.js').DataSourceOptions }} Order
 */

/** @type {import('../../index.js').Engine} */
let engine;
let ran = 0;
let running = 0;

/** @param {Order} order */
async function query({ ms, version, does }) {
  ran += 1;
  running += 1;
  process.send?.({ kind: `runs ${version}` });
  await sleep(ms);
  running -= 1;
  if (does === 'reject') throw new RangeError(`process ${process.pid} says no`);
  return { data: [{ version }] };
}

/** @param {Order} order */
async function crowd(order) {
  ran = 0;
  const caller = new AbortController();
  const options = { ...order.options, ...(order.abortMs === undefined ? {} : { signal: caller.signal }) };
  const asked = Array.from({ length: order.callers }, () =>
    engine.queryDataSourceWithCache(order.params, ['a'], () => query(order), false, options),
  );
  if (order.abortMs !== undefined) setTimeout(() => caller.abort(new Error('gone')), order.abortMs);
  const ended = (await Promise.allSettled(asked)).map((one) =>
    one.status === 'fulfilled'
      ? `${one.value.data[0]?.version} ${one.value.stale ?? ''}`.trim()
      : String(one.reason.code ?? one.reason.message),
  );
  const fromCache = (await Promise.allSettled(asked)).filter(
    (one) => one.status === 'fulfilled' && one.value.fromCache,
  ).length;
  process.send?.({ kind: 'answered', ended, ran, fromCache });
}

process.on('message', async (message) => {
  const { kind } = /** @type {{ kind: string }} */ (message);
  if (kind === 'task') {
    const { options } = /** @type {{ options: import('../../index.js').EngineOptions }} */ (
      /** @type {unknown} */ (message)
    );
    engine = bcos.createEngine(options);
    // Connections exist before the race: it is about queries, not about who connects first.
    while (!engine.isRedisAvailable()) await engine.redisCacheService.get('contact');
    process.send?.({ kind: 'ready' });
  }
  if (kind === 'crowd') await crowd(/** @type {Order} */ (/** @type {unknown} */ (message)));
  if (kind === 'count') {
    // What runs in the background ends first.
    while (running > 0) await sleep(5);
    process.send?.({ kind: 'count', ran, ...engine.getMetrics().dataSources });
  }
});
process.once('disconnect', () => process.exit());
