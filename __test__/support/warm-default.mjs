/** Whether the default engine warms by itself: one scenario per run, named by the first argument. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { ENTRY, load, tell } from './script-tools.mjs';

/** Until the warm-up has ended, or so long that it would have. @param {typeof import('../../index.js')} api */
async function warming(api) {
  for (let look = 0; look < 60; look += 1) {
    const { warming } = await api.getHealth();
    if (warming.last !== null) return warming.last;
    await sleep(25);
  }
  return null;
}

/** @type {Record<string, () => unknown>} */
const scenarios = {
  async 'import alone'() {
    load();
    await sleep(500);
    tell({ imported: true });
  },

  async 'first use'() {
    const api = load();
    await api.isTokenBlacklisted('a token');
    tell({ last: await warming(api) });
  },

  async 'an engine of its own'() {
    const api = load();
    const engine = api.createEngine();
    await engine.isTokenBlacklisted('a token');
    await sleep(500);
    tell({ last: (await engine.getHealth()).warming.last });
    await engine.close();
  },

  async 'a second copy of the wrapper'() {
    const api = load();
    api.getEngine();
    await warming(api);
    const { warm_ids: first } = api.getMetrics().source.statementsByName;
    api.getEngine();
    await sleep(200);
    tell({ statements: [first, api.getMetrics().source.statementsByName.warm_ids] });
  },

  /** The work is done while the warm-up still waits for the database. */
  async 'nothing left to do'() {
    const api = load();
    await api.getCachedTokenBlacklistStatus('a token');
    tell({ state: (await Promise.race([api.getHealth(), sleep(100)]))?.warming.state ?? 'waiting' });
  },

  async 'asked for as the first use'() {
    const api = load();
    tell({ stats: await api.warmCache({ level: 'aggressive', users: 1 }) });
  },

  /** It holds the warm-up of the default engine, and would never end its query. */
  async 'a thread that is ended'() {
    const api = load();
    const state = async () => (await api.getHealth()).warming;
    const code = `
      const api = require(${JSON.stringify(ENTRY)});
      const queryFunction = () => new Promise(() => undefined);
      const dataSources = [{ params: { dataSourceId: 'endless' }, userOrganizations: null, queryFunction }];
      void api.warmCache({ level: 'aggressive', users: 0, dataSources });
      setInterval(() => undefined, 1000);`;
    const worker = new Worker(code, { eval: true });
    while ((await state()).stage !== 'dataSources') await sleep(10);
    await worker.terminate();
    // One that asks for more waits for the other's end.
    const stats = await api.warmCache({ level: 'aggressive', users: 1, force: true, deadlineMs: 5_000 });
    tell({ stats, ended: (await state()).state });
  },

  'bad configuration'() {
    const api = load();
    api.recordCacheFallback('export', 'timeout');
    tell({ recorded: true });
  },
};

await scenarios[process.argv[2] ?? '']?.();
