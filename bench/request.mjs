/**
 * `--only request`: an authenticated request, everything cached. Rate limit, blacklist, verified payload, user, context:
 * with `authorizeRequest`, with the drop-in functions called in one turn, and with the same steps written by hand on ioredis
 * and rate-limiter-flexible, one after the other, and with one MGET beside the limit. The limit is one that is not reached.
 * Invariant: everybody starts from the text of the token and ends with payload, user and context as objects; a peer compares
 * the hash of the token and looks at the answer of the blacklist and at `exp`, as it must.
 */

import * as crypto from 'node:crypto';
import { Redis } from 'ioredis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { counter } from './counts.mjs';
import { cleanTokens, KEYS, PEER_PREFIX, users, withEngines } from './data.mjs';
import { compare } from './measure.mjs';
import { fillContexts } from './rbac-data.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */
/** @typedef {{ payload: object | null, user: object | null, context: object | null }} Passed */

const BASE = 'ioredis, one after the other';

const key = (/** @type {string} */ namespace, /** @type {string} */ id) => `${PEER_PREFIX}${namespace}:${id}`;
const parse = (/** @type {string | null | undefined} */ text) => {
  if (typeof text !== 'string') throw new Error('an entry of the peer is gone');
  return JSON.parse(text);
};

/** The claims of a token, not verified: which keys to ask for. @param {string} token */
function claims(token) {
  const from = token.indexOf('.') + 1;
  return parse(Buffer.from(token.slice(from, token.indexOf('.', from)), 'base64url').toString());
}

/** The quickest there is in this Node. @param {string} token */
const sha256 = (token) =>
  crypto.hash
    ? crypto.hash('sha256', token, 'base64')
    : crypto.createHash('sha256').update(token).digest('base64');

/** @param {string | null | undefined} text @param {string} token */
function verified(text, token) {
  const kept = parse(text);
  if (kept.token !== sha256(token)) throw new Error('another token');
  if (kept.payload.exp * 1_000 <= Date.now()) throw new Error('expired');
  return kept.payload;
}

/** Of the address of a visitor, which none of them reaches. */
const LIMIT = 1_000;
const WINDOW_SECONDS = 1;
const limitOf = (/** @type {string} */ identifier) => ({
  type: 'request',
  identifier,
  limit: LIMIT,
  windowSeconds: WINDOW_SECONDS,
});
const limiterOn = (/** @type {Redis} */ storeClient) =>
  new RateLimiterRedis({
    storeClient,
    points: LIMIT,
    duration: WINDOW_SECONDS,
    keyPrefix: `${PEER_PREFIX}request`,
  });

/** Five steps. @param {Redis} redis */
const oneByOne =
  (redis, limiter = limiterOn(redis)) =>
  async (/** @type {string} */ token, /** @type {string} */ visitor) => {
    await limiter.consume(visitor);
    const { jti } = claims(token);
    if ((await redis.get(key('token_bl', jti))) !== '0') throw new Error('revoked');
    const payload = verified(await redis.get(key('jwt_payload', jti)), token);
    const user = parse(await redis.get(key('user_basic', payload.user_id)));
    const context = parse(await redis.get(key('user_context', payload.user_id)));
    return { payload, user, context };
  };

/** The best that is done by hand. @param {Redis} redis */
const atOnce =
  (redis, limiter = limiterOn(redis)) =>
  async (/** @type {string} */ token, /** @type {string} */ visitor) => {
    const { jti, user_id } = claims(token);
    const [[revoked, kept, basic, composed]] = await Promise.all([
      redis.mget(
        key('token_bl', jti),
        key('jwt_payload', jti),
        key('user_basic', user_id),
        key('user_context', user_id),
      ),
      limiter.consume(visitor),
    ]);
    if (revoked !== '0') throw new Error('revoked');
    const payload = verified(kept, token);
    if (payload.user_id !== user_id) throw new Error('another user');
    return { payload, user: parse(basic), context: parse(composed) };
  };

/** The drop-in functions in one turn. @param {import('../index.js').Engine} ours */
const inOneTurn = (ours) => async (/** @type {string} */ token, /** @type {string} */ visitor) => {
  const { jti, user_id } = claims(token);
  const { type, limit, windowSeconds } = limitOf(visitor);
  const [revoked, payload, user, context, told] = await Promise.all([
    ours.isTokenBlacklisted(jti),
    ours.getCachedJWTPayload(token),
    ours.getUserById(user_id),
    ours.getCachedUserContext(user_id),
    ours.checkRateLimit(type, visitor, limit, windowSeconds),
  ]);
  if (revoked || !told.allowed) throw new Error('revoked, or too many requests');
  return { payload, user, context };
};

/** @type {import('./report.mjs').Measurement['run']} */
export async function request({ server, rounds, roundMs, concurrencies, progress }) {
  const { contexts, tokens } = await fillContexts(server);
  const texts = contexts.user.map((context) => JSON.stringify(context));
  /** @type {Variant['right']} */
  const right = (answer, index) => {
    const { payload, user, context } = /** @type {Passed} */ (answer);
    return (
      /** @type {{ jti: string }} */ (payload).jti === cleanTokens[index] &&
      JSON.stringify(user) === JSON.stringify(users[index]) &&
      JSON.stringify(context) === texts[index]
    );
  };
  /** @type {Variant['right']} */
  const glance = (answer, index) => {
    const { payload, user, context } = /** @type {{ [part: string]: Record<string, unknown> }} */ (answer);
    const id = users[index]?.user_id;
    return payload?.['jti'] === cleanTokens[index] && user?.['user_id'] === id && context?.['user_id'] === id;
  };
  /** @param {string} name @param {(token: string, visitor: string) => Promise<unknown>} pass @returns {Variant} */
  const variant = (name, pass) => ({
    name,
    right,
    glance,
    call: (index) => pass(String(tokens[index]), `visitor-${index}`),
  });
  const plain = new Redis({ host: server.host, port: server.port });
  const pipelining = new Redis({ host: server.host, port: server.port, enableAutoPipelining: true });
  try {
    return await withEngines(server, [{}, { rbacBoundedMs: 60_000 }], async (ours, near) => {
      const variants = [
        variant('bcos-cache `authorizeRequest`', (token, visitor) =>
          ours.authorizeRequest({ token, limit: limitOf(visitor) }),
        ),
        variant("bcos-cache `authorizeRequest`, `consistency: 'bounded'`", (token, visitor) =>
          near.authorizeRequest({ token, consistency: 'bounded', limit: limitOf(visitor) }),
        ),
        variant('bcos-cache, five drop-in functions in one turn', inOneTurn(ours)),
        variant(BASE, oneByOne(plain)),
        variant('ioredis auto-pipelining, one after the other', oneByOne(pipelining)),
        variant('ioredis, one MGET', atOnce(plain)),
        variant('ioredis auto-pipelining, one MGET', atOnce(pipelining)),
      ];
      const tables = [];
      for (const concurrency of concurrencies) {
        progress(`authenticated request: ${concurrency} concurrent`);
        const plan = { concurrency, keys: KEYS, rounds, roundMs };
        const rows = await compare(variants, plan, 'closed loop', counter(server));
        const note = `With a rate limit on either side, by rate-limiter-flexible for the peers. Contexts of ${texts[0]?.length} bytes of JSON, payloads and users of 350; 150 organizations. The one JSON.parse of the drop-in functions is the application's look at the token.`;
        tables.push({
          title: `Authenticated request, ${concurrency} concurrent`,
          base: BASE,
          rows,
          concurrency,
          note,
        });
      }
      return tables;
    });
  } finally {
    plain.disconnect();
    pipelining.disconnect();
  }
}
