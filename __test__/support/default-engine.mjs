/**
 * A process of its own that uses the default engine, because a process has only one. Prints one JSON object: what
 * each step named in its first argument (a JSON list) came to. Not a test: `config.spec.ts` judges.
 */
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const before = process.getActiveResourcesInfo().length;
const api = require('../../index.js');

const steps = {
  import: () => process.getActiveResourcesInfo().length - before,
  configureBad: () => api.configure({ redisPort: 0 }),
  configureEmbedded: () => api.configure({ cacheStore: 'embedded' }),
  configureNone: () => api.configure({ cacheStore: 'none' }),
  store: async () => (await api.getHealth()).store.kind,
  available: () => api.isRedisAvailable(),
  ask: () => api.getCachedTokenBlacklistStatus('a'),
  mark: () => api.invalidateTokenCache('a'),
  sameEngine: () => {
    const first = api.getEngine();
    return first === api.getEngine();
  },
  close: () => api.close(),
  metrics: () => api.getMetrics().store.kind,
  esm: async () => {
    const module = await import('../../index.js');
    return (
      Object.keys(api).every((name) => module[name] === api[name]) && module.getEngine() === api.getEngine()
    );
  },
};

const done = {};
for (const name of JSON.parse(process.argv[2])) {
  const key = name in done ? `${name}2` : name;
  try {
    // A synchronous throw and a rejection are told apart: functions that return promises must not throw.
    const result = steps[name]();
    try {
      done[key] = { value: (await result) ?? null };
    } catch (error) {
      done[key] = { rejected: error.code, field: error.field, name: error.name };
    }
  } catch (error) {
    done[key] = { thrown: error.code, field: error.field, name: error.name };
  }
}
console.log(JSON.stringify(done));
