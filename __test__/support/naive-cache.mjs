/**
 * The cache that everybody writes first: GET, load, SET; and DEL after a change. Not a way to cache: it exists so
 * that a test can show that it would notice one like it. Invariant: none, which is the point.
 */
import pg from 'pg';
import { RespClient } from '../servers/resp.mjs';

/** @typedef {{ redisHost: string, redisPort: number, databaseUrl: string }} Options */

export class NaiveCache {
  /** @param {Options} options */
  constructor({ redisHost, redisPort, databaseUrl }) {
    this.store = new RespClient({ host: redisHost, port: redisPort });
    this.source = new pg.Pool({ connectionString: databaseUrl, max: 8 });
  }

  /** @param {string} key @param {() => Promise<unknown>} load @returns {Promise<any>} */
  async #through(key, load) {
    const cached = await this.store.command('GET', key);
    if (typeof cached === 'string') return JSON.parse(cached);
    const loaded = await load();
    await this.store.command('SET', key, JSON.stringify(loaded), 'EX', 60);
    return loaded;
  }

  /** @param {string} userId */
  getUserById(userId) {
    return this.#through(`user_basic:${userId}`, async () => {
      const { rows } = await this.source.query('SELECT * FROM slow.users WHERE user_id = $1', [userId]);
      return rows[0] ?? null;
    });
  }

  /** @param {string} jti */
  isTokenBlacklisted(jti) {
    return this.#through(`token_bl:${jti}`, async () => {
      const { rows } = await this.source.query('SELECT FROM slow.token_blacklist WHERE jti = $1', [jti]);
      return rows.length > 0;
    });
  }

  /** @param {{ dataSourceId: string }} params @param {unknown} _ @param {() => Promise<object>} query */
  async queryDataSourceWithCache({ dataSourceId }, _, query) {
    const cacheKey = `datasource:${dataSourceId}`;
    return { ...(await this.#through(cacheKey, query)), cacheKey };
  }

  /** @param {string} cacheKey */
  async invalidateDataSourceCache(cacheKey) {
    await this.store.command('DEL', cacheKey);
    return { acknowledged: true, queued: false };
  }

  /** @param {string} dataSourceId */
  invalidateDataSourceCaches(dataSourceId) {
    return this.invalidateDataSourceCache(`datasource:${dataSourceId}`);
  }

  /** @param {string} userId */
  async invalidateUserCache(userId) {
    await this.store.command('DEL', `user_basic:${userId}`);
    return { acknowledged: true, queued: false };
  }

  /** @param {string} jti */
  async invalidateTokenCache(jti) {
    await this.store.command('SET', `token_bl:${jti}`, 'true', 'EX', 3_600);
    return { acknowledged: true, queued: false };
  }

  async close() {
    this.store.close();
    await this.source.end();
  }
}
