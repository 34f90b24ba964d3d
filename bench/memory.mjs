/**
 * The caches we are compared with where nobody is asked: each holds the values in the memory of this process, in the
 * configuration its documentation gives. Clients of a server are in `peers.mjs`.
 */

import { BentoCache, bentostore } from 'bentocache';
import { memoryDriver } from 'bentocache/drivers/memory';
import { Loader } from 'layered-loader/core';
import { LRUCache } from 'lru-cache';

/** @typedef {import('./measure.mjs').Variant} Variant */

/** The one that ratios refer to. */
export const MEMORY_BASE = 'BentoCache, default';

/**
 * The peers, holding `values` under `namespace:id`.
 * @param {string} namespace @param {string[]} ids @param {unknown[]} values @param {Pick<Variant, 'right' | 'glance'>} checks
 */
export async function inMemory(namespace, ids, values, checks) {
  const key = (/** @type {number} */ index) => `${namespace}:${ids[index]}`;
  const byKey = new Map(ids.map((_, index) => [key(index), values[index]]));
  const loader = new Loader({
    inMemoryCache: { cacheType: 'lru-map', ttlInMsecs: 3_600_000, maxItems: 10_000 },
    dataSourceGetOneFn: async (/** @type {string} */ asked) => byKey.get(asked),
  });
  const bento = new BentoCache({
    default: 'plain',
    stores: {
      plain: bentostore().useL1Layer(memoryDriver({ maxItems: 10_000 })),
      objects: bentostore().useL1Layer(memoryDriver({ maxItems: 10_000, serialize: false })),
    },
  });
  const lru = new LRUCache({ max: 10_000, ttl: 3_600_000 });
  for (const [one, value] of byKey) {
    await loader.get(one);
    await bento.set({ key: one, value, ttl: '1h' });
    await bento.use('objects').set({ key: one, value, ttl: '1h' });
    lru.set(one, /** @type {{}} */ (value));
  }
  const objects = bento.use('objects');
  const fromLru = async (/** @type {string} */ one) => lru.get(one);
  /** @type {Variant[]} */
  const variants = [
    { name: 'layered-loader', call: (index) => loader.get(key(index)), ...checks },
    { name: 'BentoCache, default', call: (index) => bento.get({ key: key(index) }), ...checks },
    { name: 'BentoCache, `serialize: false`', call: (index) => objects.get({ key: key(index) }), ...checks },
    { name: 'lru-cache in an async function', call: (index) => fromLru(key(index)), ...checks },
  ];
  return { variants, close: () => bento.disconnectAll() };
}
