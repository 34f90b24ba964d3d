/**
 * What the processes of the resurrection test write and read: users with a version in their name, tokens that are
 * revoked once, and results of queries for these users. Not the judge: it only says which version an answer holds.
 * Invariant: the version of a key only grows, and it is committed before its invalidation begins.
 */
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * @typedef {import('../../index.js').Engine} Engine
 * @typedef {{ key: string, stored: string, version: number | undefined }} Answer `version`: undefined = unknown
 * @typedef {{ acknowledged: boolean }} Result
 * @typedef {{ cache: Engine, source: import('pg').Pool, byHand: boolean, aging: boolean }} Tools
 */

/** @param {number} mostMs often 0, so that the next step follows at once */
export async function anyMoment(mostMs) {
  const ms = Math.random() * (mostMs + 1) - 1;
  if (ms > 0) await sleep(ms);
}

/** One user per lane; every round is the next version. */
export class Users {
  /** @param {Tools} tools @param {string[]} ids by lane */
  constructor({ cache, source, byHand }, ids) {
    this.cache = cache;
    this.source = source;
    this.byHand = byHand;
    this.ids = ids;
    this.versions = ids.map(() => 0);
  }

  /** @param {number} lane */
  async write(lane) {
    const id = /** @type {string} */ (this.ids[lane]);
    const version = (this.versions[lane] ?? 0) + 1;
    this.versions[lane] = version;
    await anyMoment(10);
    await this.source.query('UPDATE users SET first_name = $1 WHERE user_id = $2', [version, id]);
    await anyMoment(2);
    const { acknowledged } = await this.cache.invalidateUserCache(id);
    return { key: id, version, acknowledged };
  }

  /** @param {number} lane @returns {Promise<Answer>} */
  async read(lane) {
    const id = /** @type {string} */ (this.ids[lane]);
    const answer = await (this.byHand ? this.#byHand(id) : this.cache.getUserById(id));
    const version = answer === undefined ? undefined : Number(answer?.first_name ?? -1);
    return { key: id, stored: `user_basic:${id}`, version };
  }

  /** @param {string} id */
  async #byHand(id) {
    const known = await this.cache.getCachedUserBasic(id);
    if (known !== null) return known;
    const { rows } = await this.source.query('SELECT * FROM slow.users WHERE user_id = $1', [id]);
    await this.cache.cacheUserBasic(id, rows[0]);
    return undefined;
  }
}

/** How long results past their time are accepted, and by how much they are made to be. */
const STALE_MS = 3_600_000;
export const PAST_MS = STALE_MS / 2;
/** A query takes a few milliseconds and its result lives for a minute: every few hits one refreshes it early. */
const BETA = 10_000;

/** One data source per lane, whose query asks for the version of a user. */
export class Results {
  /** @param {Tools} tools @param {string[]} ids by lane */
  constructor({ cache, source, aging }, ids) {
    this.cache = cache;
    this.source = source;
    this.aging = aging;
    this.ids = ids;
    this.versions = ids.map(() => 0);
    /** @type {(string | undefined)[]} */
    this.cacheKeys = ids.map(() => undefined);
  }

  /** @param {number} lane */
  async write(lane) {
    const id = /** @type {string} */ (this.ids[lane]);
    const version = (this.versions[lane] ?? 0) + 1;
    this.versions[lane] = version;
    // Nothing grows old that is voided at once.
    await anyMoment(this.aging ? 60 : 10);
    await this.source.query('UPDATE users SET first_name = $1 WHERE user_id = $2', [version, id]);
    await anyMoment(2);
    const cacheKey = this.cacheKeys[lane];
    const all = cacheKey === undefined || Math.random() < 0.5;
    const { acknowledged } = await (all
      ? this.cache.invalidateDataSourceCaches(id)
      : this.cache.invalidateDataSourceCache(cacheKey));
    return { key: id, version, acknowledged };
  }

  /** @param {number} lane @returns {Promise<Answer>} */
  async read(lane) {
    const id = /** @type {string} */ (this.ids[lane]);
    const query = async () => {
      const { rows } = await this.source.query('SELECT first_name FROM slow.users WHERE user_id = $1', [id]);
      return { data: rows };
    };
    const forced = Math.random() < 0.03;
    const params = { dataSourceId: id };
    const result = await this.cache.queryDataSourceWithCache(params, ['a'], query, forced, this.#options());
    this.cacheKeys[lane] = result.cacheKey;
    return { key: id, stored: result.cacheKey, version: Number(result.data[0]?.first_name ?? -1) };
  }

  /** Mostly those of a caller who accepts old results, and sometimes of one who does not. */
  #options() {
    if (!this.aging || Math.random() < 0.2) return undefined;
    return { staleMs: STALE_MS, earlyRefresh: Math.random() < 0.5 && { beta: BETA } };
  }
}

/** Every round is a new token; readers of a lane follow its writer. */
export class Tokens {
  /** @param {Tools} tools @param {string[]} lanes */
  constructor({ cache, source, byHand }, lanes) {
    this.cache = cache;
    this.source = source;
    this.byHand = byHand;
    this.lanes = lanes;
    this.written = lanes.map(() => 0);
    this.seen = lanes.map(() => 0);
  }

  /** @param {number} lane */
  async write(lane) {
    const sequence = this.written[lane] ?? 0;
    this.written[lane] = sequence + 1;
    const jti = `${this.lanes[lane]}-${sequence}`;
    const row = {
      jti,
      userId: '3f2504e0-4f89-11d3-9a0c-0305e82c3301',
      tokenType: 'access',
      reason: 'logout',
    };
    // Readers cache "not revoked" meanwhile.
    await anyMoment(12);
    if (this.cache.blacklistToken !== undefined && Math.random() < 0.5) {
      const { acknowledged } = await this.cache.blacklistToken({ ...row, expiresAt: Date.now() + 3_600_000 });
      return { key: jti, version: 1, acknowledged };
    }
    await this.source.query(
      `INSERT INTO token_blacklist (jti, user_id, token_type, expires_at, reason)
       VALUES ($1, $2, $3, now() + interval '1 hour', $4)`,
      [jti, row.userId, row.tokenType, row.reason],
    );
    await anyMoment(2);
    const { acknowledged } = await this.cache.invalidateTokenCache(jti);
    return { key: jti, version: 1, acknowledged };
  }

  /** Mostly the newest token of the lane, sometimes one of the last. @param {number} lane @returns {Promise<Answer>} */
  async read(lane) {
    const newest = this.seen[lane] ?? 0;
    const back = Math.random() < 0.8 ? 0 : Math.floor(Math.random() * 4);
    const jti = `${this.lanes[lane]}-${Math.max(0, newest - back)}`;
    const revoked = await (this.byHand ? this.#byHand(jti) : this.cache.isTokenBlacklisted(jti));
    if (revoked === true && back === 0) this.seen[lane] = Math.max(this.seen[lane] ?? 0, newest + 1);
    return {
      key: jti,
      stored: `token_bl:${jti}`,
      version: revoked === undefined ? undefined : Number(revoked),
    };
  }

  /** @param {string} jti */
  async #byHand(jti) {
    const known = await this.cache.getCachedTokenBlacklistStatus(jti);
    if (known !== null) return known;
    const { rows } = await this.source.query('SELECT FROM slow.token_blacklist WHERE jti = $1', [jti]);
    await this.cache.cacheTokenBlacklistStatus(jti, rows.length > 0);
    return undefined;
  }
}
