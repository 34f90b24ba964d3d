/**
 * A context that is cached: near (`bounded`) and validated with the store on every call. What it is compared with is what
 * an application has without us: the same object in memory, and the same JSON in the store.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { counter } from './counts.mjs';
import { PEER_PREFIX, withEngines } from './data.mjs';
import { compare } from './measure.mjs';
import { inMemory } from './memory.mjs';
import { withPeers } from './peers.mjs';
import { fillContexts, kinds } from './rbac-data.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */
/** @typedef {import('./report.mjs').Conditions} Conditions */
/** @typedef {import('../index.js').UserContext} UserContext */
/** @typedef {import('../index.js').Engine} Engine */

/** Both keep the object as it is. The default of BentoCache parses JSON on every hit, which nobody does with a context. */
const NEAR_BASE = 'BentoCache, `serialize: false`';
const STORE_BASE = 'ioredis `get` + JSON.parse';
/** A thousand answers of 330 kB would be under way: that measures memory, not caches. */
const LARGE_AT_ONCE = 100;
const LARGE_CHARACTERS = 100_000;

/** @param {UserContext[]} contexts */
function checksOf(contexts) {
  const texts = contexts.map((context) => JSON.stringify(context));
  /** Every byte takes longer than a call; who it is and how much is in it do not. */
  const glance = (/** @type {unknown} */ answer, /** @type {number} */ index) => {
    const [given, known] = [/** @type {UserContext} */ (answer), contexts[index]];
    return (
      given.user_id === known?.user_id &&
      given.all_permissions.length === known.all_permissions.length &&
      given.accessible_practices.length === known.accessible_practices.length
    );
  };
  const right = (/** @type {unknown} */ answer, /** @type {number} */ index) =>
    JSON.stringify(answer) === texts[index];
  return { texts, right, glance };
}

/** Until they are answered without asking. @param {Engine} ours @param {string[]} ids @param {import('../index.js').ContextOptions} [options] */
async function warm(ours, ids, options) {
  for (let tries = 0; tries < 100; tries += 1) {
    const before = ours.getMetrics().bridge.submitted;
    for (const id of ids) await ours.getCachedUserContext(id, options);
    if (ours.getMetrics().bridge.submitted === before) return;
    await sleep(50);
  }
  throw new Error('contexts were never served without asking the store');
}

/** @type {import('./report.mjs').Measurement['run']} */
export async function nearContext({ server, rounds, roundMs, progress }) {
  const { contexts } = await fillContexts(server);
  const tables = [];
  for (const [name, { what, organizations, prefix }] of Object.entries(kinds)) {
    progress(`context, near hit: ${what}`);
    const known = contexts[/** @type {keyof typeof kinds} */ (name)];
    const ids = known.map((context) => context.user_id);
    const { right, glance, texts } = checksOf(known);
    const others = await inMemory('user_context', ids, known, { right, glance });
    // The longest bound, so that a table is one of near hits; what was asked nevertheless is counted below it.
    const user_context = { mode: /** @type {const} */ ('bounded'), maxAgeMs: 60_000 };
    const [table] = await withEngines(
      server,
      [
        { near: { user_context }, redisKeyPrefix: prefix },
        { rbacBoundedMs: 60_000, redisKeyPrefix: prefix },
      ],
      async (bounded, usual) => {
        const option = { consistency: /** @type {const} */ ('bounded') };
        await warm(bounded, ids);
        await warm(usual, ids, option);
        const asked = () => bounded.getMetrics().bridge.submitted;
        const before = asked();
        /** @type {Variant[]} */
        const own = [
          {
            name: 'bcos-cache `getCachedUserContext`, near `bounded`',
            right,
            glance,
            call: (index) => bounded.getCachedUserContext(String(ids[index])),
          },
          {
            name: "the same by `consistency: 'bounded'`",
            right,
            glance,
            call: (index) => usual.getCachedUserContext(String(ids[index]), option),
          },
        ];
        const plan = { concurrency: 1, keys: ids.length, rounds, roundMs };
        const rows = await compare([...own, ...others.variants], plan, 'in sequence', counter(server));
        const note = `${ids.length} contexts of ${texts[0]?.length} bytes of JSON; ${organizations.length} organizations. ${asked() - before} calls of the first row asked the store.`;
        return [{ title: `Context, near hit, awaited: ${what}`, base: NEAR_BASE, rows, note }];
      },
    );
    await others.close();
    tables.push(/** @type {import('./report.mjs').Table} */ (table));
  }
  return tables;
}

/** @type {import('./report.mjs').Measurement['run']} */
export async function validatedContext({ server, rounds, roundMs, concurrencies, progress }) {
  const { contexts } = await fillContexts(server);
  /** @type {import('./report.mjs').Table[]} */
  const tables = [];
  for (const [name, { what, organizations, prefix }] of Object.entries(kinds)) {
    const known = contexts[/** @type {keyof typeof kinds} */ (name)];
    const ids = known.map((context) => context.user_id);
    const { texts, right, glance } = checksOf(known);
    const large = Number(texts[0]?.length) > LARGE_CHARACTERS;
    const key = (/** @type {number} */ index) => `${PEER_PREFIX}user_context:${ids[index]}`;
    await withPeers(server, (peers) =>
      withEngines(server, [{ redisKeyPrefix: prefix }], async (ours) => {
        /** @type {Variant} */
        const own = {
          name: 'bcos-cache `getCachedUserContext`, validated',
          right,
          glance,
          call: (index) => ours.getCachedUserContext(String(ids[index])),
        };
        /** @type {Variant[]} */
        const others = peers.slice(0, 2).flatMap((peer) => [
          {
            name: `${peer.name} \`get\` + JSON.parse`,
            right,
            glance,
            call: async (index) => JSON.parse(String(await peer.get(key(index)))),
          },
          {
            name: `${peer.name} \`get\`, text`,
            right: (answer, index) => answer === texts[index],
            glance: (answer, index) => String(answer).length === texts[index]?.length,
            call: (index) => peer.get(key(index)),
          },
        ]);
        for (const concurrency of concurrencies) {
          if (large && concurrency > LARGE_AT_ONCE) continue;
          progress(`context, validated: ${what}, ${concurrency} concurrent`);
          const plan = { concurrency, keys: ids.length, rounds, roundMs };
          const rows = await compare([own, ...others], plan, 'closed loop', counter(server));
          const title = `Context, validated: ${what}, ${concurrency} concurrent`;
          const note = `${ids.length} contexts of ${texts[0]?.length} bytes of JSON; ${organizations.length} organizations.`;
          tables.push({ title, base: STORE_BASE, rows, concurrency, note });
        }
      }),
    );
  }
  return tables;
}
