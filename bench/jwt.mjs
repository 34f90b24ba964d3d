/**
 * A token that was verified before, against verifying it again with `node:crypto` the way JWT libraries do: split, key
 * lookup by algorithm, signature in constant time, claims parsed, `exp` compared.
 */

import { createHmac, timingSafeEqual, verify as verifySignature } from 'node:crypto';
import { HMAC_KEY, jwts, KEYS, keep, withEngines } from './data.mjs';
import { compare } from './measure.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */

const BASE = 'verify HS256 (`node:crypto`)';

/** @param {string} token @param {import('node:crypto').KeyObject} rsaPublicKey */
function verifyJwt(token, rsaPublicKey) {
  const [header = '', body = '', signature = ''] = token.split('.');
  const { alg } = JSON.parse(Buffer.from(header, 'base64url').toString());
  const signed = `${header}.${body}`;
  const given = Buffer.from(signature, 'base64url');
  const good =
    alg === 'HS256'
      ? sameBytes(given, createHmac('sha256', HMAC_KEY).update(signed).digest())
      : alg === 'RS256' && verifySignature('RSA-SHA256', Buffer.from(signed), rsaPublicKey, given);
  if (!good) throw new Error('bad signature');
  const claims = JSON.parse(Buffer.from(body, 'base64url').toString());
  if (claims.exp * 1_000 <= Date.now()) throw new Error('expired');
  return claims;
}

/** @param {Buffer} a @param {Buffer} b */
const sameBytes = (a, b) => a.length === b.length && timingSafeEqual(a, b);

/** @type {import('./report.mjs').Measurement['run']} */
export function jwt({ server, rounds, roundMs, progress }) {
  const { hs256, rs256, rsaPublicKey, payloads } = jwts();
  let verified = 0;
  const verify = (/** @type {string} */ token) => {
    verified += 1;
    return verifyJwt(token, rsaPublicKey);
  };
  /** @type {Variant['right']} */
  const right = (answer, index) => JSON.stringify(answer) === JSON.stringify(payloads[index]);
  const options = [
    { near: { jwt_payload: { mode: /** @type {const} */ ('bounded'), maxAgeMs: 60_000 } } },
    {},
  ];
  return withEngines(server, options, async (bounded, validated) => {
    await Promise.all(hs256.map((token) => validated.verifyTokenCached(token, verify)));
    await keep(server);
    const cached = verified;
    /** @param {string} name @param {import('../index.js').Engine} ours @returns {Variant} */
    const own = (name, ours) => ({
      name: `bcos-cache \`verifyTokenCached\`, near \`${name}\``,
      right,
      call: (index) => ours.verifyTokenCached(String(hs256[index]), verify),
    });
    /** @param {string} name @param {string[]} tokens @returns {Variant} */
    const crypto = (name, tokens) => ({
      name,
      right,
      call: async (index) => verifyJwt(String(tokens[index]), rsaPublicKey),
    });
    const variants = [
      own('bounded', bounded),
      own('validated', validated),
      crypto(BASE, hs256),
      crypto('verify RS256, 2048 bit (`node:crypto`)', rs256),
    ];
    const tables = [];
    for (const concurrency of [1, 100]) {
      progress(`verified token: ${concurrency} concurrent`);
      const rows = await compare(variants, { concurrency, keys: KEYS, rounds, roundMs });
      tables.push({ title: `Verified token, ${concurrency} concurrent`, base: BASE, rows, concurrency });
    }
    if (verified > cached) throw new Error(`${verified - cached} cached tokens were verified again`);
    return tables;
  });
}
