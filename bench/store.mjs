/**
 * Store hit: the value is in Valkey and every call asks it. A user of about 350 bytes, as an object, and a clean token.
 * Peers parse what they get, because ours returns an object; for the token there is nothing to parse.
 */

import { cleanTokens, KEYS, PEER_PREFIX, users, withEngines } from './data.mjs';
import { compare } from './measure.mjs';
import { withPeers } from './peers.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */

const sameUser = (/** @type {unknown} */ answer, /** @type {number} */ index) =>
  JSON.stringify(answer) === JSON.stringify(users[index]);
const isFalse = (/** @type {unknown} */ answer) => answer === false;

/** @param {import('./peers.mjs').Peer} peer @returns {Variant} */
function parsedUser({ name, get }) {
  return {
    name: `${name} \`get\` + JSON.parse`,
    right: sameUser,
    call: async (index) => JSON.parse(String(await get(`${PEER_PREFIX}user_basic:${users[index]?.user_id}`))),
  };
}

/** @param {import('./peers.mjs').Peer} peer @returns {Variant} */
function rawToken({ name, get }) {
  return {
    name: `${name} \`get\``,
    right: isFalse,
    call: async (index) => (await get(`${PEER_PREFIX}token_bl:${cleanTokens[index]}`)) === '1',
  };
}

/** @param {string} name @param {import('../index.js').Engine} ours @returns {Variant} */
function ourUser(name, ours) {
  return { name, right: sameUser, call: (index) => ours.getUserById(String(users[index]?.user_id)) };
}

/** @param {import('../index.js').Engine} ours @returns {Variant} */
function ourToken(ours) {
  const call = (/** @type {number} */ index) => ours.isTokenBlacklisted(String(cleanTokens[index]));
  return { name: 'bcos-cache `isTokenBlacklisted`', right: isFalse, call };
}

const OFF = { user_basic: { mode: /** @type {const} */ ('off') } };

/** @type {import('./report.mjs').Measurement['run']} */
export function store({ server, rounds, roundMs, concurrencies, progress }) {
  return withPeers(server, (peers) =>
    withEngines(server, [{ near: OFF }, {}], async (off, validated) => {
      const groups = [
        {
          what: `user object, ${JSON.stringify(users[0]).length} bytes of JSON`,
          base: 'ioredis `get` + JSON.parse',
          variants: [
            ourUser('bcos-cache `getUserById`, near `off`', off),
            ourUser('bcos-cache `getUserById`, near `validated`', validated),
            ...peers.map(parsedUser),
          ],
        },
        {
          what: 'clean token',
          base: 'ioredis `get`',
          variants: [ourToken(validated), ...peers.map(rawToken)],
        },
      ];
      const tables = [];
      for (const { what, base, variants } of groups) {
        for (const concurrency of concurrencies) {
          progress(`store hit: ${what}, ${concurrency} concurrent`);
          const rows = await compare(variants, { concurrency, keys: KEYS, rounds, roundMs });
          tables.push({ title: `Store hit: ${what}, ${concurrency} concurrent`, base, rows, concurrency });
        }
      }
      const { near, source } = off.getMetrics().namespaces.user_basic;
      if (near + source > 0) throw new Error('with near `off`, an answer did not come from the store');
      return tables;
    }),
  );
}

/**
 * What it changes that a worker looks for work before it sleeps, where few calls are under way.
 * @type {import('./report.mjs').Measurement['run']}
 */
export function spin({ server, rounds, roundMs, progress }) {
  const options = [0, 100].map((cacheSpinUs) => ({ near: OFF, cacheSpinUs }));
  return withPeers(server, (peers) =>
    withEngines(server, options, async (sleeping, spinning) => {
      const variants = [
        ourUser('bcos-cache, `cacheSpinUs: 0` (default)', sleeping),
        ourUser('bcos-cache, `cacheSpinUs: 100`', spinning),
        ...peers.slice(0, 1).map(parsedUser),
      ];
      const tables = [];
      for (const concurrency of [1, 10]) {
        progress(`spinning worker: ${concurrency} concurrent`);
        const rows = await compare(variants, { concurrency, keys: KEYS, rounds, roundMs });
        const title = `Spinning worker: user object from the store, ${concurrency} concurrent`;
        tables.push({ title, base: 'ioredis `get` + JSON.parse', rows, concurrency });
      }
      return tables;
    }),
  );
}
