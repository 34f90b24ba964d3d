/**
 * The peer of the analytics measurements: the secondary index that the application's plan describes (seed 2), written for the
 * bench on ioredis and pg. One JSON text per combination of measure, practice, provider and frequency, five families of sets
 * that name their keys, unions and intersections in the store, MGET of 10,000 keys.
 *
 * Two defects of the plan's text are mended, because a figure of them would mean nothing: all rows of a combination are kept,
 * not the last one, and errors of a pipeline end the warm. All else is as it stands there, batches and lifetimes included.
 */

import { Redis } from 'ioredis';
import pg from 'pg';

/**
 * @typedef {{ practice: string, practice_primary: string, practice_uid: number, provider_name: string | null, provider_uid: number | null,
 *   measure: string, measure_type: string, frequency: string, date_index: string, measure_value: number }} MeasureRow
 * @typedef {{ measure: string, frequency: string, practiceUids?: number[], providerUids?: number[] }} Filters
 */

const TTL_SECONDS = 4 * 60 * 60;
const WARM_BATCH = 5_000;
const READ_BATCH = 10_000;
const TABLE = 'ih.agg_app_measures';

// As the application gets them: a date as its text, a numeric as a number.
const types = {
  getTypeParser: (/** @type {number} */ oid, /** @type {string} */ format) => {
    if (oid === pg.types.builtins.DATE) return (/** @type {string} */ text) => text;
    if (oid === pg.types.builtins.NUMERIC) return Number;
    return pg.types.getTypeParser(oid, /** @type {'text'} */ (format));
  },
};

/** Rows as the application's driver gives them. @param {string} url */
export const openPool = (url) =>
  new pg.Pool({
    connectionString: url,
    max: 10,
    types: /** @type {import('pg').CustomTypesConfig} */ (types),
  });

export class SeedIndex {
  /** @param {{ host: string, port: number, url: string, prefix: string, dataSource: number }} where */
  constructor({ host, port, url, prefix, dataSource }) {
    this.redis = new Redis({ host, port, keyPrefix: prefix });
    this.pool = openPool(url);
    this.prefix = prefix;
    this.ds = dataSource;
    this.unions = 0;
  }

  async close() {
    this.redis.disconnect();
    await this.pool.end();
  }

  /** @param {MeasureRow} row */
  #cacheKey({ measure, practice_uid, provider_uid, frequency }) {
    return `cache:ds:${this.ds}:m:${measure}:p:${practice_uid}:prov:${provider_uid}:freq:${frequency}`;
  }

  /** @param {MeasureRow} row */
  #indexKeys({ measure: m, practice_uid: p, provider_uid: prov, frequency: f }) {
    const ds = this.ds;
    return [
      `idx:ds:${ds}:master`,
      `idx:ds:${ds}:m:${m}:freq:${f}`,
      `idx:ds:${ds}:m:${m}:p:${p}:freq:${f}`,
      `idx:ds:${ds}:m:${m}:freq:${f}:prov:${prov}`,
      `idx:ds:${ds}:m:${m}:p:${p}:prov:${prov}:freq:${f}`,
    ];
  }

  /**
   * `perRow`: as the plan's text has it, every row written to the key of its combination, where only the last one stays.
   * @param {boolean} [perRow] @returns {Promise<{ entriesCached: number, totalRows: number }>}
   */
  async warm(perRow = false) {
    const { rows } = await this.pool.query(
      `SELECT * FROM ${TABLE} ORDER BY measure, practice_uid, provider_uid, frequency, date_index`,
    );
    /** @type {Map<string, MeasureRow[]>} */
    const grouped = new Map();
    for (const row of rows) {
      const key = `${row.measure}|${row.practice_uid}|${row.provider_uid}|${row.frequency}`;
      const known = grouped.get(key);
      if (known) known.push(row);
      else grouped.set(key, [row]);
    }
    const entries = [...grouped.values()];
    const written = perRow ? rows.map((/** @type {MeasureRow} */ row) => [row]) : entries;
    for (let at = 0; at < written.length; at += WARM_BATCH)
      await this.#write(written.slice(at, at + WARM_BATCH));
    await this.redis.set(`cache:meta:ds:${this.ds}:last_warm`, new Date().toISOString(), 'EX', TTL_SECONDS);
    return { entriesCached: entries.length, totalRows: rows.length };
  }

  /** @param {MeasureRow[][]} entries */
  async #write(entries) {
    const pipeline = this.redis.pipeline();
    for (const rows of entries) {
      const first = /** @type {MeasureRow} */ (rows[0]);
      const key = this.#cacheKey(first);
      pipeline.set(key, JSON.stringify(rows), 'EX', TTL_SECONDS);
      for (const index of this.#indexKeys(first)) {
        pipeline.sadd(index, key);
        pipeline.expire(index, TTL_SECONDS);
      }
    }
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }

  /** @param {Filters} filters @returns {Promise<MeasureRow[]>} */
  async query({ measure, frequency, practiceUids, providerUids }) {
    const base = `idx:ds:${this.ds}:m:${measure}`;
    const sets = [`${base}:freq:${frequency}`];
    if (practiceUids && practiceUids.length > 0)
      sets.push(await this.#union(practiceUids.map((uid) => `${base}:p:${uid}:freq:${frequency}`)));
    if (providerUids && providerUids.length > 0)
      sets.push(await this.#union(providerUids.map((uid) => `${base}:freq:${frequency}:prov:${uid}`)));
    const keys = sets.length === 1 ? await this.redis.smembers(`${sets[0]}`) : await this.#intersection(sets);
    /** @type {MeasureRow[]} */
    const rows = [];
    for (let at = 0; at < keys.length; at += READ_BATCH) {
      for (const text of await this.redis.mget(keys.slice(at, at + READ_BATCH)))
        if (text !== null) rows.push(.../** @type {MeasureRow[]} */ (JSON.parse(text)));
    }
    return rows;
  }

  /** @param {string[]} sets */
  async #union(sets) {
    if (sets.length === 1) return /** @type {string} */ (sets[0]);
    this.unions += 1;
    const key = `temp:union:${Date.now()}:${this.unions}`;
    await this.redis.sunionstore(key, ...sets);
    await this.redis.expire(key, 10);
    return key;
  }

  /** @param {string[]} sets */
  async #intersection(sets) {
    this.unions += 1;
    const key = `temp:result:${Date.now()}:${this.unions}`;
    await this.redis.sinterstore(key, ...sets);
    const keys = await this.redis.smembers(key);
    await this.redis.del(key);
    return keys;
  }

  /**
   * The swap of a warm beside the old one (seed 4): every key gets its name in one MULTI. Forth and back, so that nothing changes.
   * @returns {Promise<{ keys: number, ms: number }>} of one way
   */
  async publish() {
    const keys = (await this.#allKeys()).map((key) => key.slice(this.prefix.length));
    const from = performance.now();
    for (const [before, after] of [
      ['', 'shadow:'],
      ['shadow:', ''],
    ]) {
      const multi = this.redis.multi();
      for (const key of keys) multi.rename(`${before}${key}`, `${after}${key}`);
      await multi.exec();
    }
    return { keys: keys.length, ms: (performance.now() - from) / 2 };
  }

  async #allKeys() {
    const keys = [];
    let cursor = '0';
    do {
      const [next, found] = await this.redis.scan(cursor, 'MATCH', `${this.prefix}*`, 'COUNT', 10_000);
      keys.push(...found);
      cursor = next;
    } while (cursor !== '0');
    return keys;
  }
}

/** What a chart does with its rows today. @param {Iterable<MeasureRow>} rows */
export function sumByMonth(rows) {
  /** @type {Map<string, number>} */
  const sums = new Map();
  for (const { date_index, measure_value } of rows) {
    const month = `${date_index.slice(0, 7)}-01`;
    // Cents: sums of doubles would depend on the order of the rows.
    sums.set(month, (sums.get(month) ?? 0) + Math.round(measure_value * 100));
  }
  return [...sums]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([month, cents]) => ({ month, sum: cents / 100 }));
}
