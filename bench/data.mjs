/**
 * What is cached in every measurement: users, token ids and JWTs, and the engines that serve them. Not the demo's data.
 * Invariant: no engine that is measured has a source, so an answer that the cache does not have is an error, never a slow hit.
 */

import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { startPostgres } from '../__test__/servers/index.mjs';
import { createEngine } from '../index.js';

/** @typedef {import('../index.js').Engine} Engine */
/** @typedef {import('../index.js').EngineOptions} EngineOptions */
/** @typedef {import('../__test__/servers/index.mjs').Server} Server */

export const KEYS = 1_000;
export const PEER_PREFIX = 'peer:';
export const OUR_PREFIX = 'ours:';
export const HMAC_KEY = 'an example key of thirty-two bytes';

export const range = (/** @type {number} */ count) => Array.from({ length: count }, (_, n) => n);
const uuid = (/** @type {number} */ n) => `3f2504e0-4f89-41d3-9a0c-${n.toString(16).padStart(12, '0')}`;

/** @param {number} n */
export const person = (n) => ({
  user_id: uuid(n),
  email: `firstname.long-lastname.${String(n).padStart(6, '0')}@practice-group.example.com`,
  first_name: `Firstname-of-person-${String(n).padStart(6, '0')}`,
  last_name: `Long-Hyphenated-Lastname-${String(n).padStart(6, '0')}`,
  is_active: true,
  email_verified: true,
  provider_uid: 100_000 + n,
  created_at: '2025-01-15T08:30:00.000Z',
  updated_at: '2026-06-30T16:45:12.345Z',
});
export const users = range(KEYS).map(person);
export const cleanTokens = range(KEYS).map(
  (n) => `c1ea0000-4f89-41d3-9a0c-${n.toString(16).padStart(12, '0')}`,
);
export const revokedTokens = cleanTokens.map((id) => id.replace('c1ea', 'dead'));

const expiry = Math.floor(Date.now() / 1_000) + 24 * 3_600;
const payloads = users.map((user, n) => ({
  jti: cleanTokens[n],
  sub: user.user_id,
  user_id: user.user_id,
  email: user.email,
  roles: ['analyst', 'practice-manager'],
  iat: expiry - 25 * 3_600,
  exp: expiry,
}));

const part = (/** @type {unknown} */ value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const hmac = (/** @type {string} */ text) => createHmac('sha256', HMAC_KEY).update(text).digest('base64url');
/** @param {string} alg @param {(text: string) => string} signature */
const tokens = (alg, signature) =>
  payloads.map((payload) => {
    const text = `${part({ alg, typ: 'JWT' })}.${part(payload)}`;
    return `${text}.${signature(text)}`;
  });

/** Signed with `HMAC_KEY`; the same ones each time. */
export const hmacJwts = () => ({ hs256: tokens('HS256', hmac), payloads });

/** Made on demand: the keys and 1,000 RSA signatures take a second. */
export function jwts() {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const rsa = (/** @type {string} */ text) =>
    sign('RSA-SHA256', Buffer.from(text), privateKey).toString('base64url');
  return { ...hmacJwts(), rs256: tokens('RS256', rsa), rsaPublicKey: publicKey };
}

/**
 * Runs `body` with engines on `server`, one per set of options, and closes them.
 * @template T
 * @param {{ host: string, port: number }} server @param {EngineOptions[]} options @param {(...engines: Engine[]) => Promise<T>} body
 */
export async function withEngines(server, options, body) {
  const engines = options.map((given) =>
    createEngine({
      redisHost: server.host,
      redisPort: server.port,
      redisKeyPrefix: OUR_PREFIX,
      // Peers wait as long as it takes; a busy machine must not make ours look like an outage.
      cacheDeadlineMs: 5_000,
      ...given,
    }),
  );
  try {
    return await body(...engines);
  } finally {
    await Promise.all(engines.map((engine) => engine.close()));
  }
}

/**
 * Fills the store: our entries through our own functions from a database that is gone when anything is measured, the
 * same values under keys of the same form for the peers.
 * @param {Server} server
 */
export async function fill(server) {
  const postgres = await startPostgres();
  try {
    await postgres.query(readFileSync(new URL('../demo/schema.sql', import.meta.url), 'utf8'));
    const columns = Object.keys(users[0] ?? {}).join(', ');
    const insert = `INSERT INTO users (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::users, $1)`;
    await postgres.query(insert, [JSON.stringify(users)]);
    await withEngines(server, [{ databaseUrl: postgres.url }], async (ours) => {
      const loaded = await Promise.all(users.map((user) => ours.getUserById(user.user_id)));
      if (JSON.stringify(loaded) !== JSON.stringify(users))
        throw new Error('users were not loaded as they are');
      await Promise.all(cleanTokens.map((id) => ours.isTokenBlacklisted(id)));
      await Promise.all(revokedTokens.map((id) => ours.invalidateTokenCache(id)));
    });
  } finally {
    await postgres.stop();
  }
  for (const user of users) {
    await server.command('SET', `${PEER_PREFIX}user_basic:${user.user_id}`, JSON.stringify(user));
  }
  for (const id of cleanTokens) await server.command('SET', `${PEER_PREFIX}token_bl:${id}`, '0');
  await keep(server);
}

/** Entries must outlive the run: what is measured is a hit, not an expiry. @param {Server} server */
export async function keep(server) {
  const script = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('PEXPIRE', key, 3600000) end";
  await server.command('EVAL', script, 0);
}
