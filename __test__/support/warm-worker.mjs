/**
 * One process of the warming tests: it warms on command and tells what came of it and what it cost. Invariant: it does
 * nothing before it is told to.
 */
import bcos from '../../index.js';

/** @typedef {{ kind: string, options: import('../../index.js').EngineOptions, order?: import('../../index.js').WarmupOptions,
 *   endless?: boolean }} Order */

/** @type {import('../../index.js').Engine} */
let engine;

/** A query that never ends: whoever warms with it warms until it is killed. */
const endless = {
  params: { dataSourceId: 'endless' },
  userOrganizations: null,
  queryFunction: () => {
    process.send?.({ kind: 'querying' });
    return new Promise(() => undefined);
  },
};

process.on('message', async (message) => {
  const { kind, options, order, endless: never } = /** @type {Order} */ (message);
  if (kind === 'task') {
    engine = bcos.createEngine(options);
    // Connections exist before the race: it is about who warms.
    await engine.isTokenBlacklisted('the connection');
    process.send?.({ kind: 'ready' });
  }
  if (kind === 'warm') {
    const stats = await engine.warmCache(never ? { ...order, dataSources: [endless] } : order);
    const { statementsByName } = engine.getMetrics().source;
    process.send?.({ kind: 'warm', stats, statements: statementsByName });
  }
});
process.once('disconnect', () => process.exit());
