/**
 * The caches that results of data sources are asked from, each as the question an application asks: what is the answer to
 * these parameters, for these organizations? None is tuned by us: where a documentation has two ways, both are here.
 * - bcos-cache, `queryDataSourceWithCache`. One load per key over all processes; a near copy is confirmed with the store on
 *   every read, so nothing is stale after an acknowledged invalidation; objects are frozen and shared; stored compressed.
 * - BentoCache, `getOrSet`, two tiers and a bus as its documentation sets them up. One load per key and process. Near copies
 *   of other processes are removed by messages that nobody waits for, and a load that is running stores what it read before.
 *   A near copy is JSON that is parsed on every hit, or with `serialize: false` one object that every caller may change.
 * - cache-manager, `wrap`, with Keyv: `createKeyv` of cacheable in front of Redis. One load per key and process. Nobody tells
 *   other processes of a change: a near copy lives until its time is over. It is cloned on every hit, or with
 *   `useClone: false` one object that every caller may change. Keyv's own serializer looks at every value; its documentation
 *   has JSON as the other one.
 * - ioredis: `get`, `JSON.parse`, and `set` on a miss. No near copy, no shared load; who deletes while a load runs loses.
 *
 * Invariant: equal work. Everybody gets the parameters and makes a key of them (peers: SHA-256 of their JSON), has the same
 * lifetime, and keeps the same JSON, times included; none of the peers compresses.
 */

import { createHash } from 'node:crypto';
import KeyvRedis from '@keyv/redis';
import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { redisBusDriver, redisDriver } from 'bentocache/drivers/redis';
import { createCache } from 'cache-manager';
import { createKeyv } from 'cacheable';
import { Redis } from 'ioredis';
import { Keyv } from 'keyv';
import { OUR_PREFIX, PEER_PREFIX, withEngines } from './data.mjs';

/**
 * @typedef {import('./result-data.mjs').Result} Result
 * @typedef {{ query_time_ms: number, data: readonly import('./result-data.mjs').MeasureRow[] }} Answer
 * @typedef {() => Promise<Result>} Load
 * @typedef {'near hit' | 'store hit' | 'miss'} Kind
 * @typedef {import('../__test__/servers/index.mjs').Server} Server
 * @typedef {import('../index.js').Engine} Engine
 * @typedef {import('cache-manager').Cache} Cache
 *
 * @typedef {object} ResultCache
 * @property {string} name
 * @property {string} rawName
 * @property {string} entries pattern of its entries' keys in the store
 * @property {boolean} frozen whether its objects cannot be changed
 * @property {(kind: Kind, raw: boolean) => boolean} differs whether it does anything else than its usual form, which is there, too
 * @property {(params: object, load: Load) => Promise<Answer>} ask
 * @property {(params: object, load: Load) => Promise<string | Buffer>} askRaw the JSON as it is, for a response
 * @property {() => Promise<unknown>} clear removes all its entries, wherever they are
 */

export const SOURCE = 3;
const TTL_MS = 3_600_000;
/** What ours has when nothing is said. */
const NEAR_BYTES = 64 * 1024 * 1024;
/** As in the documentation. */
const NEAR_ITEMS = 5_000;
const ORGANIZATIONS = [
  '0d8f2c1e-5b7a-4f3e-9c60-1a2b3c4d5e6f',
  '5e6f7a8b-9c0d-4e1f-a2b3-c4d5e6f70819',
  'b3c4d5e6-f708-4192-8a3b-4c5d6e7f8091',
];

export const IOREDIS = 'ioredis `get` + JSON.parse';
export const IOREDIS_RAW = 'ioredis `getBuffer`';
export const BENTO = 'BentoCache';
export const CACHE_MANAGER = 'cache-manager + Keyv';

/** @param {object} params */
export const keyOf = (params) =>
  `datasource:${SOURCE}:${createHash('sha256')
    .update(JSON.stringify([params, ORGANIZATIONS]))
    .digest('base64url')}`;

/** As ours keeps it. @param {Result} result */
function dated(result) {
  const now = Date.now();
  return {
    cached_at: new Date(now).toISOString(),
    expires_at: new Date(now + TTL_MS).toISOString(),
    ...result,
  };
}

/** Removes entries without the help of who wrote them. @param {Server} server @param {string} entries */
const remove = (server, entries) =>
  server.command(
    'EVAL',
    "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('UNLINK', key) end",
    0,
    entries,
  );

/** @param {Server} server @param {Engine} engine @param {string} how @param {string} prefix @returns {ResultCache} */
function own(server, engine, how, prefix) {
  const entries = `${prefix}datasource:*`;
  /** @param {Load} load @param {(query: Load) => Promise<T>} asked @template {{ fromCache: boolean }} T */
  const honest = async (load, asked) => {
    let ran = false;
    const answer = await asked(() => {
      ran = true;
      return load();
    });
    if (answer.fromCache === ran) throw new Error('bcos-cache does not say whether the query ran');
    return answer;
  };
  const raw = /** @type {const} */ ({ raw: true });
  return {
    name: `bcos-cache${how}`,
    rawName: `bcos-cache${how}, \`raw\``,
    entries,
    frozen: true,
    differs: () => true,
    ask: (params, load) =>
      honest(load, (query) => engine.queryDataSourceWithCache(params, ORGANIZATIONS, query)),
    askRaw: async (params, load) => {
      const asked = (/** @type {Load} */ query) =>
        engine.queryDataSourceWithCache(params, ORGANIZATIONS, query, false, raw);
      return (await honest(load, asked)).json;
    },
    clear: async () => {
      await engine.invalidateDataSourceCaches(SOURCE);
      await remove(server, entries);
    },
  };
}

/** @param {BentoCache<any>} bento @param {boolean} serialize @param {string} prefix @returns {ResultCache} */
function bentoCache(bento, serialize, prefix) {
  const how = serialize ? '' : ', `serialize: false`';
  /** @param {object} params @param {Load} load @param {(result: object) => unknown} form */
  const ask = (params, load, form) =>
    bento.getOrSet({ key: keyOf(params), ttl: TTL_MS, factory: async () => form(dated(await load())) });
  return {
    name: `${BENTO}${how}`,
    rawName: `${BENTO}${how}, of text`,
    entries: `${prefix}:*`,
    frozen: false,
    differs: (kind) => serialize || kind === 'near hit',
    ask: (params, load) => ask(params, load, (result) => result),
    askRaw: (params, load) => ask(params, load, (result) => JSON.stringify(result)),
    clear: () => bento.clear(),
  };
}

/** @param {Cache} cache @param {boolean} near @param {boolean} plain @param {string} prefix @returns {ResultCache} */
function cacheManager(cache, near, plain, prefix) {
  const how = plain ? `${near ? ', `useClone: false`' : ''}, JSON` : '';
  /** @param {object} params @param {Load} load @param {(result: object) => any} form */
  const ask = (params, load, form) =>
    cache.wrap(keyOf(params), async () => form(dated(await load())), TTL_MS);
  return {
    name: `${CACHE_MANAGER}${how}`,
    rawName: `${CACHE_MANAGER}${how}, of text`,
    entries: `${prefix}:*`,
    frozen: false,
    // To both serializers a text is a text.
    differs: (kind, raw) => !plain || !raw || kind === 'near hit',
    ask: (params, load) => ask(params, load, (result) => result),
    askRaw: (params, load) => ask(params, load, (result) => JSON.stringify(result)),
    clear: () => cache.clear(),
  };
}

/** @param {Server} server @param {Redis} redis @param {string} prefix @returns {ResultCache} */
function plainRedis(server, redis, prefix) {
  /** @param {string} key @param {Load} load */
  const loaded = async (key, load) => {
    const result = dated(await load());
    const text = JSON.stringify(result);
    await redis.set(key, text, 'PX', TTL_MS);
    return { result, text };
  };
  return {
    name: IOREDIS,
    rawName: IOREDIS_RAW,
    entries: `${prefix}:*`,
    frozen: false,
    differs: () => true,
    ask: async (params, load) => {
      const key = `${prefix}:${keyOf(params)}`;
      const found = await redis.get(key);
      return found === null ? (await loaded(key, load)).result : JSON.parse(found);
    },
    askRaw: async (params, load) => {
      const key = `${prefix}:${keyOf(params)}`;
      return (await redis.getBuffer(key)) ?? (await loaded(key, load)).text;
    },
    clear: () => remove(server, `${prefix}:*`),
  };
}

/** @param {Server} server @param {boolean} near @param {boolean} serialize @param {string} prefix */
function newBento({ host, port }, near, serialize, prefix) {
  const connection = { host, port };
  const store = bentostore().useL2Layer(redisDriver({ connection }));
  if (near) {
    // Its documentation: a bound in bytes needs text.
    const memory = serialize ? { maxSize: NEAR_BYTES } : { serialize, maxItems: NEAR_ITEMS };
    store.useL1Layer(memoryDriver(memory)).useBus(redisBusDriver({ connection }));
  }
  return new BentoCache({ default: 'results', prefix, stores: { results: store } });
}

/** @param {Server} server @param {boolean} near @param {boolean} plain @param {string} namespace */
function newManager({ host, port }, near, plain, namespace) {
  // Not the function itself: what is parsed is counted by putting another in its place.
  const deserialize = (/** @type {string} */ text) => JSON.parse(text);
  const json = plain ? { serialize: JSON.stringify, deserialize } : {};
  const store = new Keyv({ store: new KeyvRedis(`redis://${host}:${port}`), namespace, ...json });
  const memory = createKeyv({ ttl: TTL_MS, lruSize: NEAR_ITEMS, useClone: !plain });
  return createCache({ stores: near ? [memory, store] : [store] });
}

/**
 * Runs `body` with every cache, with its near copies or without any, and closes them and removes what they stored.
 * @template T
 * @param {Server} server @param {'near' | 'store'} tiers
 * @param {(caches: ResultCache[], engine: Engine) => Promise<T>} body
 */
export async function withResultCaches(server, tiers, body) {
  const near = tiers === 'near';
  const prefix = (/** @type {string} */ mark) => `${PEER_PREFIX}${tiers}-${mark}`;
  const bento = newBento(server, near, true, prefix('bento'));
  // Without near copies it is the same.
  const objects = near ? [newBento(server, near, false, prefix('objects'))] : [];
  const manager = newManager(server, near, false, prefix('manager'));
  const plain = newManager(server, near, true, prefix('plain'));
  const redis = new Redis({ host: server.host, port: server.port });
  const redisKeyPrefix = `${OUR_PREFIX}${tiers}:`;
  const options = near ? {} : { near: { datasource: { mode: /** @type {const} */ ('off') } } };
  try {
    return await withEngines(server, [{ redisKeyPrefix, ...options }], async (engine) => {
      const caches = [
        own(server, engine, near ? '' : ', near `off`', redisKeyPrefix),
        bentoCache(bento, true, prefix('bento')),
        ...objects.map((one) => bentoCache(one, false, prefix('objects'))),
        cacheManager(manager, near, false, prefix('manager')),
        cacheManager(plain, near, true, prefix('plain')),
        plainRedis(server, redis, prefix('ioredis')),
      ];
      const result = await body(caches, engine);
      for (const { entries } of caches) await remove(server, entries);
      return result;
    });
  } finally {
    redis.disconnect();
    for (const one of [bento, ...objects]) await one.disconnectAll();
    for (const one of [manager, plain]) await one.disconnect();
  }
}
