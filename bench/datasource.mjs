/**
 * `--only datasource`: results of data sources of 2 KiB to 8 MiB, as objects and as the text of a response: from a near
 * copy, from the store, and not cached at all. What each cache does is told in `result-caches.mjs`, what is measured as
 * "block" in `block.mjs`, what a call is in `result-variants.mjs`.
 * Invariant: an answer that came from another place than its table says ends the run.
 */

import { blocks } from './block.mjs';
import { counter } from './counts.mjs';
import { range } from './data.mjs';
import { compare } from './measure.mjs';
import { BENTO, IOREDIS, IOREDIS_RAW, withResultCaches } from './result-caches.mjs';
import { knownResult } from './result-data.mjs';
import { keyAlone, ResultVariants } from './result-variants.mjs';

/**
 * @typedef {import('./measure.mjs').Variant} Variant
 * @typedef {import('./measure.mjs').Row} Row
 * @typedef {import('./report.mjs').Conditions} Conditions
 * @typedef {import('./report.mjs').Table} Table
 * @typedef {import('./result-caches.mjs').ResultCache} ResultCache
 * @typedef {import('./result-caches.mjs').Kind} Kind
 *
 * @typedef {object} Size
 * @property {string} label
 * @property {number} bytes
 * @property {number} results different ones; all of them fit into every near cache
 * @property {number} misses per millisecond of a round: about half of what it has room for
 * @property {number[]} concurrencies
 */

const KIB = 1_024;
/** @type {Size[]} */
const SIZES = [
  { label: '2 KiB', bytes: 2 * KIB, results: 64, misses: 2, concurrencies: [1] },
  { label: '64 KiB', bytes: 64 * KIB, results: 16, misses: 0.75, concurrencies: [1, 16] },
  { label: '1 MiB', bytes: KIB * KIB, results: 2, misses: 0.05, concurrencies: [1] },
  { label: '8 MiB', bytes: 8 * KIB * KIB, results: 1, misses: 0, concurrencies: [1] },
];
/** Of the usual length, and one less of them: there are many tables, and many rows in each. */
const ROUND = 0.25;

/** @type {Record<Kind, string>} */
const NOTES = {
  'near hit':
    'The result is in this process. bcos-cache asks the store whether it is still current (one round trip without the result) and is the only one here that answers nothing stale after an acknowledged invalidation; the others ask nobody. ioredis has no near copies and fetches everything. Only the objects of bcos-cache are frozen.',
  'store hit':
    'No cache keeps near copies here. BentoCache and cache-manager run one load per key and process, bcos-cache one over all processes, ioredis as many as are asked for. bcos-cache stores compressed: over loopback that is work without its gain.',
  miss: 'With near copies, as in the tables of near hits. The load function answers after one turn of the event loop; what is measured is asking, storing and answering. bcos-cache answers a frozen copy, the form that a hit will have, the others the very object of the load function. Only bcos-cache holds a right to store that an invalidation ends, in two more commands.',
};

/** Bytes per entry whose key matches. */
const BYTES_PER_ENTRY = `local bytes, keys = 0, redis.call('KEYS', ARGV[1])
for _, key in ipairs(keys) do bytes = bytes + redis.call('STRLEN', key) end
return math.floor(bytes / #keys)`;

/** The tables, row by row: one a kind, a form and a concurrency, with all sizes. */
class Tables {
  /** @type {Map<string, Table>} */
  #tables = new Map();

  /** @param {string} rule how it was measured */
  constructor(rule) {
    this.rule = rule;
  }

  /** @param {Kind} kind @param {boolean} raw @param {number} concurrency @param {Row[]} rows */
  add(kind, raw, concurrency, rows) {
    const title = `Result of a data source, ${kind}: ${raw ? 'text for a response' : 'object'}, ${concurrency} concurrent`;
    const base = kind === 'near hit' ? `${BENTO}${raw ? ', of text' : ''}` : raw ? IOREDIS_RAW : IOREDIS;
    const what = concurrency > 1 ? `of ${concurrency} calls at once` : 'of a call';
    const note = `${NOTES[kind]} "Block" is the longest turn of the event loop ${what}. ${this.rule}`;
    const table = this.#tables.get(title) ?? { title, base, rows: [], concurrency, note };
    table.rows?.push(...rows);
    this.#tables.set(title, table);
  }

  get sorted() {
    const all = [...this.#tables.values()];
    return Object.keys(NOTES).flatMap((kind) => all.filter(({ title }) => title.includes(`, ${kind}:`)));
  }
}

/** What is measured with results of one size. */
class Part {
  /** @param {Conditions} conditions @param {Size} size @param {Tables} tables */
  constructor(conditions, size, tables) {
    this.conditions = conditions;
    this.size = size;
    this.tables = tables;
    const known = range(size.results).map((index) => knownResult(size.bytes, index));
    this.forms = [false, true].map((raw) => new ResultVariants(known, raw));
  }

  /** @param {Kind} kind @param {boolean} raw @param {Variant[]} variants */
  async #measure(kind, raw, variants) {
    const { server, rounds, roundMs, progress } = this.conditions;
    const { label, results, misses, concurrencies } = this.size;
    const once = kind === 'miss';
    for (const concurrency of concurrencies) {
      progress(`data source: ${label}, ${kind}, ${raw ? 'raw' : 'parsed'}, ${concurrency} concurrent`);
      const keys = once ? Math.max(concurrency, Math.round(roundMs * misses)) : results;
      const plan = { concurrency, keys, rounds, roundMs };
      const rows = await compare(variants, plan, once ? 'once each' : 'closed loop', counter(server));
      const blocked = await blocks(variants, { ...plan, roundMs: roundMs / 2 }, once);
      const whole = rows.map((row, at) => ({
        ...row,
        group: label,
        counts: { ...blocked[at], ...row.counts },
      }));
      this.tables.add(kind, raw, concurrency, whole);
    }
  }

  /** @param {ResultCache[]} caches @param {'near hit' | 'store hit'} kind */
  async hits(caches, kind) {
    for (const variants of this.forms) {
      for (const cache of caches) await variants.fill(cache);
      const asked = caches
        .filter(({ differs }) => differs(kind, variants.raw))
        .map((cache) => variants.hit(cache));
      const first = kind === 'near hit' && !variants.raw && this.size === SIZES[0];
      await this.#measure(kind, variants.raw, first ? [...asked, keyAlone()] : asked);
    }
  }

  /** @param {ResultCache[]} caches */
  async misses(caches) {
    for (const variants of this.forms) {
      const asked = caches
        .filter(({ differs }) => differs('miss', variants.raw))
        .map((cache) => variants.miss(cache));
      await this.#measure('miss', variants.raw, asked);
    }
  }

  async run() {
    const { server } = this.conditions;
    const { results, label } = this.size;
    await withResultCaches(server, 'near', async (caches, engine) => {
      await this.hits(caches, 'near hit');
      const { store, source } = engine.getMetrics().namespaces.datasource;
      if (store > 0 || source !== results * this.forms.length)
        throw new Error(`a near hit was none: ${store} from the store, ${source} loaded`);
      await this.misses(caches);
    });
    return withResultCaches(server, 'store', async (caches, engine) => {
      await this.hits(caches, 'store hit');
      const { near, source } = engine.getMetrics().namespaces.datasource;
      if (near > 0 || source !== results * this.forms.length)
        throw new Error(`a store hit was none: ${near} from near copies, ${source} loaded`);
      const stored = caches.map(async ({ name, entries }) => [
        `${label}: ${name}`,
        Number(await server.command('EVAL', BYTES_PER_ENTRY, 0, entries)),
      ]);
      return /** @type {[string, number][]} */ (await Promise.all(stored));
    });
  }
}

/** @type {import('./report.mjs').Measurement['run']} */
export async function datasource(given) {
  const conditions = { ...given, rounds: given.rounds - 1, roundMs: given.roundMs * ROUND };
  const { rounds, roundMs } = conditions;
  const tables = new Tables(
    `Every call is timed; medians of ${rounds} rounds of ${roundMs} ms and at least one call.`,
  );
  const stored = [];
  for (const size of SIZES) stored.push(...(await new Part(conditions, size, tables).run()));
  const title = 'Result of a data source: bytes in the store, mean of object and text';
  return [...tables.sorted, { title, values: Object.fromEntries(stored) }];
}
