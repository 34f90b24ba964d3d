/**
 * `--only request`: an authenticated request, everything cached. Blacklist, verified payload, user and context are four
 * steps, a rate limit before them is a fifth; both are measured, in the same run: with `authorizeRequest`, with the drop-in
 * functions called in one turn, and with the same steps written by hand on ioredis and rate-limiter-flexible, one after the
 * other, and with one MGET beside the limit. The limit is one that is not reached.
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

/** @typedef {(token: string, visitor: string) => Promise<Passed>} Pass */

/** Step by step. @param {Redis} redis @param {boolean} limited @returns {Pass} */
const oneByOne =
  (redis, limited, limiter = limiterOn(redis)) =>
  async (token, visitor) => {
    if (limited) await limiter.consume(visitor);
    const { jti } = claims(token);
    if ((await redis.get(key('token_bl', jti))) !== '0') throw new Error('revoked');
    const payload = verified(await redis.get(key('jwt_payload', jti)), token);
    const user = parse(await redis.get(key('user_basic', payload.user_id)));
    const context = parse(await redis.get(key('user_context', payload.user_id)));
    return { payload, user, context };
  };

/** The best that is done by hand. @param {Redis} redis @param {boolean} limited @returns {Pass} */
const atOnce =
  (redis, limited, limiter = limiterOn(redis)) =>
  async (token, visitor) => {
    const { jti, user_id } = claims(token);
    const read = redis.mget(
      key('token_bl', jti),
      key('jwt_payload', jti),
      key('user_basic', user_id),
      key('user_context', user_id),
    );
    const [revoked, kept, basic, composed] = limited
      ? (await Promise.all([read, limiter.consume(visitor)]))[0]
      : await read;
    if (revoked !== '0') throw new Error('revoked');
    const payload = verified(kept, token);
    if (payload.user_id !== user_id) throw new Error('another user');
    return { payload, user: parse(basic), context: parse(composed) };
  };

/** The drop-in functions in one turn. @param {import('../index.js').Engine} ours @param {boolean} limited @returns {Pass} */
const inOneTurn = (ours, limited) => async (token, visitor) => {
  const { jti, user_id } = claims(token);
  const { type, limit, windowSeconds } = limitOf(visitor);
  const steps = /** @type {const} */ ([
    ours.isTokenBlacklisted(jti),
    ours.getCachedJWTPayload(token),
    ours.getUserById(user_id),
    ours.getCachedUserContext(user_id),
  ]);
  const counted = limited ? ours.checkRateLimit(type, visitor, limit, windowSeconds) : undefined;
  const [revoked, payload, user, context] = await Promise.all(steps);
  if (revoked || (await counted)?.allowed === false) throw new Error('revoked, or too many requests');
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
      /** @param {boolean} limited */
      const variantsOf = (limited) => {
        const limit = (/** @type {string} */ visitor) => (limited ? { limit: limitOf(visitor) } : {});
        return [
          variant('bcos-cache `authorizeRequest`', (token, visitor) =>
            ours.authorizeRequest({ token, ...limit(visitor) }),
          ),
          variant("bcos-cache `authorizeRequest`, `consistency: 'bounded'`", (token, visitor) =>
            near.authorizeRequest({ token, consistency: 'bounded', ...limit(visitor) }),
          ),
          variant('bcos-cache, the drop-in functions in one turn', inOneTurn(ours, limited)),
          variant(BASE, oneByOne(plain, limited)),
          variant('ioredis auto-pipelining, one after the other', oneByOne(pipelining, limited)),
          variant('ioredis, one MGET', atOnce(plain, limited)),
          variant('ioredis auto-pipelining, one MGET', atOnce(pipelining, limited)),
        ];
      };
      const kinds = [
        { steps: 'four steps', variants: variantsOf(false), note: 'Without a rate limit.' },
        {
          steps: 'five steps',
          variants: variantsOf(true),
          note: 'With a rate limit on either side, by rate-limiter-flexible for the peers.',
        },
      ];
      const tables = [];
      for (const concurrency of concurrencies) {
        for (const { steps, variants, note } of kinds) {
          progress(`authenticated request, ${steps}: ${concurrency} concurrent`);
          const plan = { concurrency, keys: KEYS, rounds, roundMs };
          const rows = await compare(variants, plan, 'closed loop', counter(server));
          tables.push({
            title: `Authenticated request, ${steps}, ${concurrency} concurrent`,
            base: BASE,
            rows,
            concurrency,
            note: `${note} Contexts of ${texts[0]?.length} bytes of JSON, payloads and users of 350; 150 organizations. The one JSON.parse of the drop-in functions is the application's look at the token.`,
          });
        }
      }
      return tables;
    });
  } finally {
    plain.disconnect();
    pipelining.disconnect();
  }
}
