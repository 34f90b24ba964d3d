/**
 * Real HS256 JSON Web Tokens from node:crypto, as the application's own auth layer would make and
 * check them. Not a JWT library: one algorithm, five claims.
 * Invariant: `verify` looks at a claim only after the signature over the whole text has matched.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

export class TokenError extends Error {
  /** @param {'malformed' | 'signature' | 'expired'} reason */
  constructor(reason) {
    super(`token refused: ${reason}`);
    this.name = 'TokenError';
    this.reason = reason;
  }
}

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** @param {Buffer} [secret] */
export function createSigner(secret = randomBytes(32)) {
  const signature = (text) => createHmac('sha256', secret).update(text).digest();
  let verifications = 0;

  /** @param {{ userId: string, jti?: string, lifetimeSeconds?: number }} claims */
  function sign({ userId, jti = randomBytes(15).toString('base64url'), lifetimeSeconds = 900 }) {
    const iat = Math.floor(Date.now() / 1000);
    const body = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode({ jti, user_id: userId, iat, exp: iat + lifetimeSeconds })}`;
    return `${body}.${signature(body).toString('base64url')}`;
  }

  /**
   * @param {string} token
   * @returns {{ jti: string, user_id: string, iat: number, exp: number }}
   */
  function verify(token) {
    verifications += 1;
    const parts = token.split('.');
    if (parts.length !== 3) throw new TokenError('malformed');
    const given = Buffer.from(parts[2], 'base64url');
    const expected = signature(`${parts[0]}.${parts[1]}`);
    if (given.length !== expected.length || !timingSafeEqual(given, expected))
      throw new TokenError('signature');
    let header;
    let payload;
    try {
      header = JSON.parse(Buffer.from(parts[0], 'base64url').toString('utf8'));
      payload = JSON.parse(Buffer.from(parts[1], 'base64url').toString('utf8'));
    } catch {
      throw new TokenError('malformed');
    }
    if (header.alg !== 'HS256' || typeof payload.jti !== 'string' || typeof payload.user_id !== 'string') {
      throw new TokenError('malformed');
    }
    if (!(payload.exp * 1000 > Date.now())) throw new TokenError('expired');
    return payload;
  }

  return { sign, verify, verifications: () => verifications };
}

/** The same header and claims under a signature of somebody else's making. */
export function forge(token) {
  const at = token.lastIndexOf('.') + 1;
  return token.slice(0, at) + (token[at] === 'A' ? 'B' : 'A') + token.slice(at + 1);
}
