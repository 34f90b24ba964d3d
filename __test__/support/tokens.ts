/** JSON web tokens as an application makes and checks them: HS256. Not a library for anything but tests. */
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';

const SECRET = 'a secret of the tests';

export type Claims = Readonly<Record<string, unknown>>;

export const nowSeconds = (): number => Math.floor(Date.now() / 1_000);

const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');

const signatureOf = (text: string): string => createHmac('sha256', SECRET).update(text).digest('base64url');

/** A signed token with exactly these claims. */
export function signed(claims: Claims, header: Claims = { alg: 'HS256', typ: 'JWT' }): string {
  const text = `${part(header)}.${part(claims)}`;
  return `${text}.${signatureOf(text)}`;
}

/** Claims of an ordinary access token. */
export function claimsOf(userId: string, more: Claims = {}): Claims & { jti: string } {
  const now = nowSeconds();
  return { jti: randomUUID(), user_id: userId, iat: now, exp: now + 3_600, ...more };
}

/** What the application's own verification does: signature and expiry, else an error. */
export function verified(token: string): Record<string, unknown> {
  const [header, body, signature] = token.split('.');
  const given = Buffer.from(signature ?? '');
  const right = Buffer.from(signatureOf(`${header}.${body}`));
  if (given.length !== right.length || !timingSafeEqual(given, right)) throw new Error('invalid signature');
  const claims = JSON.parse(Buffer.from(body ?? '', 'base64url').toString()) as Record<string, unknown>;
  if (typeof claims.exp === 'number' && claims.exp <= Date.now() / 1_000) throw new Error('jwt expired');
  return claims;
}

/** The same token with another signature of the same length. */
export function forged(token: string): string {
  const last = token.endsWith('A') ? 'B' : 'A';
  return token.slice(0, -1) + last;
}
