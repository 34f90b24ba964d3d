/** How a process begins and ends around the package: one scenario per run, named by the first argument. */
import { stat } from 'node:fs/promises';
import { Connections, codeOf, ENTRY, load, slow, tell, threads, thrown } from './script-tools.mjs';

/** @param {typeof import('../../index.js')} api @param {number} count */
function manyCalls(api, count) {
  const token = `${['{}', '{"jti":"j","sub":"s"}'].map((part) => btoa(part)).join('.')}.s`;
  return Array.from({ length: count }, (_, index) => {
    const id = `3f2504e0-4f89-11d3-9a0c-${String(index).padStart(12, '0')}`;
    if (index % 4 === 0) return api.getUserById(id);
    if (index % 4 === 1) return api.verifyTokenCached(token, () => new Promise(() => undefined));
    if (index % 4 === 2) return api.invalidateTokenCache(`token-${index}`);
    return api.isTokenBlacklisted(`token-${index}`);
  });
}

/** In the middle: some are answered, most wait for the source. @param {typeof import('../../index.js')} api */
async function inTheMiddle(api) {
  api.configure(slow);
  const calls = manyCalls(api, 1_000);
  for (const call of calls) call.catch(() => undefined);
  await Promise.race(calls);
  const { submitted, settled } = api.getMetrics().bridge;
  tell({ pending: submitted - settled });
}

/** @type {Record<string, () => unknown>} */
const scenarios = {
  async 'work without close'() {
    const api = load();
    const revoked = await api.isTokenBlacklisted('a token');
    const user = await api.getUserById('3f2504e0-4f89-11d3-9a0c-0305e82c3301');
    tell({ revoked, user, store: (await api.getHealth()).store.status });
  },

  async 'await at the top level'() {
    const api = load();
    api.configure(slow);
    const answers = await Promise.all([api.isTokenBlacklisted('a token'), api.isTokenBlacklisted('another')]);
    tell({ answers });
  },

  'promise nobody waits for'() {
    const api = load();
    api.configure(slow);
    api.isTokenBlacklisted('a token').then((revoked) => tell({ revoked }));
  },

  async 'exit at once'() {
    const api = load();
    for (const call of manyCalls(api, 1_000)) call.catch(() => undefined);
    process.exit(7);
  },

  async 'exit in the middle'() {
    await inTheMiddle(load());
    process.exit(7);
  },

  async 'exit a moment later'() {
    await inTheMiddle(load());
    setTimeout(() => process.exit(7), Math.random() * 20);
  },

  async 'uncaught exception'() {
    await inTheMiddle(load());
    setTimeout(() => {
      throw new Error('thrown by the application');
    }, 5);
  },

  async 'exit while closing'() {
    const api = load();
    await inTheMiddle(api);
    api.close().catch(() => undefined);
    setTimeout(() => process.exit(7), Math.random() * 20);
  },

  async 'import alone'() {
    // The loader's own threads exist already when counting begins.
    await stat('.');
    const connections = process.env.REDIS_PORT === 'abc' ? undefined : new Connections();
    const before = { connections: await connections?.count(), threads: threads(), active: active() };
    const api = load();
    const esm = await import(ENTRY);
    const engine = api.createEngine;
    const after = { connections: await connections?.count(), threads: threads(), active: active() };
    await connections?.end();
    tell({ before, after, loaded: typeof engine, esm: typeof esm.createEngine });
  },

  async 'bad configuration'() {
    const api = load();
    const token = `${['{}', '{"jti":"j","sub":"s"}'].map((part) => btoa(part)).join('.')}.s`;
    const promises = {
      isTokenBlacklisted: await codeOf(api.isTokenBlacklisted('a token')),
      getUserById: await codeOf(api.getUserById('3f2504e0-4f89-11d3-9a0c-0305e82c3301')),
      verifyTokenCached: await codeOf(api.verifyTokenCached(token, () => ({}))),
      invalidateUserCache: await codeOf(api.invalidateUserCache('3f2504e0-4f89-11d3-9a0c-0305e82c3301')),
      getHealth: await codeOf(api.getHealth()),
    };
    const throws = [api.getEngine, api.getMetrics, api.createEngine, api.metricsText].map((call) =>
      thrown(call),
    );
    tell({ promises, throws, close: await codeOf(api.close()) });
  },

  async 'same functions'() {
    const api = /** @type {Record<string, unknown>} */ (/** @type {unknown} */ (load()));
    const esm = await import(ENTRY);
    const names = Object.keys(api).sort();
    const named = Object.keys(esm)
      .filter((name) => name !== 'default' && name !== 'module.exports')
      .sort();
    tell({ names, named, different: names.filter((name) => api[name] !== esm[name]) });
    tell({ defaultIsTheSame: esm.default === api });
  },

  async 'loggers one after another'() {
    const api = load();
    let records = 0;
    for (let turn = 0; turn < 5; turn += 1) api.setLogger(() => (records += 1));
    // Made last: what it says when it has connected must find the last logger.
    const engine = api.createEngine({ redisLog: 'debug' });
    await engine.isTokenBlacklisted('a token');
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = records;
    engine.setLogger(null);
    await engine.close();
    await new Promise((resolve) => setTimeout(resolve, 100));
    tell({ heard: before > 0, heardWhileSilent: records - before });
  },
};

const active = () => process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap').length;

await scenarios[process.argv[2] ?? '']?.();
