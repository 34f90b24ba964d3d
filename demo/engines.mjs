/**
 * The engines of a run: made on the demo's database and the store of the environment, connected before anything is
 * measured, and closed together. Knows nothing of what is asked of them.
 * Invariant: an option that would change an answer or send statements of its own never comes from the environment.
 */
import { DemoError } from './database.mjs';

const STORE_VARIABLES = [
  'CACHE_STORE',
  'REDIS_HOST',
  'REDIS_URL',
  'REDIS_CLUSTER_NODES',
  'UPSTASH_REDIS_REST_URL',
];
const CONNECT_LIMIT_MS = 10_000;
/** As many calls at once as the application has connections. */
const CALLS = 10;

/** @typedef {ReturnType<typeof import('../index.js').createEngine>} Engine */

/**
 * @param {{ url: string, env: NodeJS.ProcessEnv, prefix: string }} run
 */
export async function openEngines({ url, env, prefix }) {
  const createEngine = await loadPackage();
  const fixed = {
    // Both pools go to the demo's database, whatever the environment names: the demo reads nothing else.
    databaseUrl: url,
    analyticsDatabaseUrl: url,
    ...(STORE_VARIABLES.some((name) => env[name]) ? {} : { cacheStore: 'embedded' }),
    jwtUserClaims: ['user_id'],
    rbacSuperAdminRoles: ['super_admin'],
    rbacOrganizationAdminRoles: ['practice_admin', 'organization_admin'],
    rbacSamplePerMillion: 0,
    cacheTailEnabled: false,
  };
  /** @type {Engine[]} */
  const engines = [];
  return {
    /** @param {string} part  of the key prefix: engines with the same one share what a server stores */
    async open(part, more = {}) {
      const engine = createEngine({ ...fixed, ...more, redisKeyPrefix: `${prefix}${part}:` });
      engines.push(engine);
      await connect(engine);
      return engine;
    },
    closeAll: () => Promise.all(engines.map((engine) => engine.close())),
  };
}

async function loadPackage() {
  try {
    const { createEngine } = await import('../index.js');
    return createEngine;
  } catch (error) {
    if (error.code !== 'ERR_MODULE_NOT_FOUND' && error.code !== 'MODULE_NOT_FOUND') throw error;
    throw new DemoError(
      `The package is not built (${error.message.split('\n')[0]}). "npm run demo" builds it first.`,
    );
  }
}

/** Questions about ids nobody has open the engine's connections and touch no entry that is measured. */
async function connect(engine) {
  const until = performance.now() + CONNECT_LIMIT_MS;
  for (let n = 0; ; n += 1) {
    await Promise.all(
      Array.from({ length: CALLS }, (_, i) => engine.isTokenBlacklisted(`demo-connect-${n}-${i}`)),
    );
    const { kind, connected } = engine.getMetrics().store;
    if (connected || kind === 'none') return;
    if (performance.now() > until)
      throw new DemoError(`The ${kind} store did not connect within ${CONNECT_LIMIT_MS / 1000} s.`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Whether two engines with one prefix see the same entries. @param {Engine} engine */
export const isShared = (engine) => engine.getMetrics().store.kind !== 'embedded';
