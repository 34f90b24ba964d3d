/**
 * One process of the analytics tests: it warms a data source on command, tells how far it is and what came of it. Invariant:
 * it does nothing before it is told to.
 */
import bcos from '../../index.js';

/** @typedef {{ kind: string, options: import('../../index.js').EngineOptions, dataSource: number }} Order */

/** @type {import('../../index.js').AnalyticsCacheV2} */
let cache;

process.on('message', async (message) => {
  const { kind, options, dataSource } = /** @type {Order} */ (message);
  if (kind === 'task') {
    const engine = bcos.createEngine(options);
    cache = new bcos.AnalyticsCacheV2(engine);
    // Connections exist before the race: it is about who warms.
    await engine.isTokenBlacklisted('the connection');
    process.send?.({ kind: 'ready' });
  }
  if (kind === 'warm') {
    const onProgress = (/** @type {{ stage: string }} */ { stage }) => process.send?.({ kind: stage });
    try {
      process.send?.({
        kind: 'warm',
        result: await cache.warmCache(dataSource, { force: true, onProgress }),
      });
    } catch (error) {
      process.send?.({
        kind: 'warm',
        error: { code: /** @type {any} */ (error).code, message: String(error) },
      });
    }
  }
});
process.once('disconnect', () => process.exit());
