/** Type tests for "Tokens, users, JWT". Compiled, never run. */

import {
  type BlacklistResult,
  blacklistToken,
  type CallOptions,
  cacheJWTPayload,
  cacheTokenBlacklistStatus,
  cacheUserBasic,
  getCachedJWTPayload,
  getCachedTokenBlacklistStatus,
  getCachedUserBasic,
  getUserByEmail,
  getUserById,
  type InvalidateUserOptions,
  type InvalidationResult,
  invalidateAllUserTokens,
  invalidateJWTPayload,
  invalidateTokenCache,
  invalidateUserCache,
  isTokenBlacklisted,
  type JWTPayload,
  type User,
  verifyTokenCached,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

// Options of a call.
check<
  Same<CallOptions, { readonly signal?: AbortSignal | undefined; readonly deadlineMs?: number | undefined }>
>();
const maybeSignal = undefined as AbortSignal | undefined;
void isTokenBlacklisted('jti', { signal: maybeSignal, deadlineMs: undefined });
void isTokenBlacklisted('jti', undefined);
// @ts-expect-error: the unit is in the name
void isTokenBlacklisted('jti', { deadline: 50 });
// @ts-expect-error: a controller is not its signal
void isTokenBlacklisted('jti', { signal: new AbortController() });

// Tokens.
expectType<Promise<boolean>>()(isTokenBlacklisted('jti'));
expectType<Promise<boolean | null>>()(getCachedTokenBlacklistStatus('jti'));
expectType<Promise<boolean>>()(cacheTokenBlacklistStatus('jti', true));
expectType<Promise<InvalidationResult>>()(invalidateTokenCache('jti'));
expectType<Promise<InvalidationResult>>()(invalidateAllUserTokens('user'));
check<Same<InvalidationResult, { readonly acknowledged: boolean; readonly queued: boolean }>>();
// @ts-expect-error: a token without jti has no answer
void isTokenBlacklisted(undefined);
// @ts-expect-error: null is "unknown" in an answer, not something to store
void cacheTokenBlacklistStatus('jti', null);
// @ts-expect-error: an unawaited check lets everybody in
if (isTokenBlacklisted('jti')) throw new Error('revoked');
// @ts-expect-error: several tokens are several calls; they share a round trip anyway
void isTokenBlacklisted(['a', 'b']);

const revocation = { jti: 'jti', userId: 'user', tokenType: 'access', reason: 'logout' } as const;
expectType<Promise<BlacklistResult>>()(blacklistToken({ ...revocation, expiresAt: new Date(0) }));
void blacklistToken({ ...revocation, expiresAt: '2030-01-01T00:00:00Z' });
void blacklistToken({
  ...revocation,
  expiresAt: 1_893_456_000_000,
  tokenType: 'device',
  ipAddress: undefined,
});
export async function logout(headers: Headers): Promise<boolean> {
  const result = await blacklistToken({
    ...revocation,
    expiresAt: Date.now() + 60_000,
    blacklistedBy: 'admin',
    userAgent: headers.get('user-agent') ?? undefined,
  });
  expectType<boolean>()(result.inserted);
  const far: InvalidationResult = result;
  return far.acknowledged || far.queued;
}
// @ts-expect-error: expiresAt is required
void blacklistToken(revocation);
// @ts-expect-error: a bigint is not a time
void blacklistToken({ ...revocation, expiresAt: 1n });
// @ts-expect-error: reason is required
void blacklistToken({ jti: 'jti', userId: 'user', tokenType: 'access', expiresAt: 0 });
// @ts-expect-error: options are camelCase, columns are not options
void blacklistToken({ ...revocation, expiresAt: 0, ip_address: '192.0.2.1' });

// Users.
expectType<Promise<User | null>>()(getUserById('user'));
expectType<Promise<User | null>>()(getUserByEmail('a@example.org', { deadlineMs: 100 }));
expectType<Promise<User | null>>()(getCachedUserBasic('user'));
expectType<Promise<InvalidationResult>>()(invalidateUserCache('user'));
void invalidateUserCache('user', { reason: 'renamed', holdMs: 5_000, deadlineMs: 100 });
void invalidateUserCache('user', { reason: undefined, holdMs: undefined });
const told: InvalidateUserOptions = { reason: 'renamed' };
void invalidateUserCache('user', told);
// @ts-expect-error: here the reason is an option
void invalidateUserCache('user', 'renamed');
// @ts-expect-error: the unit is in the name
void invalidateUserCache('user', { hold: 5_000 });
check<
  Same<
    User,
    {
      readonly user_id: string;
      readonly email: string;
      readonly first_name: string;
      readonly last_name: string;
      readonly is_active: boolean;
      readonly email_verified: boolean | null;
      readonly provider_uid: number | null;
      readonly created_at: string | null;
      readonly updated_at: string | null;
    }
  >
>();
export async function greeting(userId: string): Promise<string> {
  const user = await getUserById(userId);
  // @ts-expect-error: may be null
  void user.email;
  if (user === null) return 'nobody';
  // @ts-expect-error: never read, never there
  void user.password_hash;
  // @ts-expect-error: text, the same on hit and miss
  user.created_at?.getTime();
  // @ts-expect-error: frozen
  user.first_name = 'Ada';
  // What was handed out can be stored again.
  expectType<Promise<boolean>>()(cacheUserBasic(userId, user));
  return `${user.first_name} ${user.last_name}`;
}
// A row as a query builder returns it: Date objects, more columns.
const row = {
  user_id: 'user',
  email: 'a@example.org',
  first_name: 'Ada',
  last_name: 'L',
  is_active: null,
  email_verified: null,
  created_at: new Date(0),
  updated_at: null,
  password_hash: 'never stored',
};
void cacheUserBasic('user', row);
// @ts-expect-error: a user without an id
void cacheUserBasic('user', { email: 'a@example.org', first_name: 'A', last_name: 'L', is_active: true });
// @ts-expect-error: there is nothing to store
void cacheUserBasic('user', null);

// JWT payloads.
interface Session {
  jti: string;
  sub: string;
  exp: number;
  practices: number[];
}
declare function verify(token: string): Promise<Session>;
expectType<Promise<Readonly<Session> | null>>()(getCachedJWTPayload<Session>('a.b.c'));
expectType<Promise<Readonly<JWTPayload> | null>>()(getCachedJWTPayload('a.b.c'));
expectType<Promise<InvalidationResult>>()(invalidateJWTPayload('jti'));
expectType<Promise<Readonly<Session>>>()(verifyTokenCached('a.b.c', verify));
expectType<Promise<Readonly<Session>>>()(verifyTokenCached<Session>('a.b.c', verify, { deadlineMs: 100 }));
expectType<Promise<Readonly<{ sub: string }>>>()(verifyTokenCached('a.b.c', (token) => ({ sub: token })));
export async function authenticate(token: string): Promise<string> {
  const session = await verifyTokenCached(token, verify);
  // @ts-expect-error: frozen
  session.sub = 'somebody else';
  const cached = await getCachedJWTPayload(token);
  expectType<number | undefined>()(cached?.exp);
  expectType<unknown>()(cached?.practices);
  expectType<Promise<boolean>>()(cacheJWTPayload(token, session));
  // @ts-expect-error: may be null
  void cached.sub;
  return session.sub;
}
// @ts-expect-error: a payload is an object
void cacheJWTPayload('a.b.c', 'payload');
// @ts-expect-error: a verifier that answers "no" must throw
void verifyTokenCached('a.b.c', () => null);
// @ts-expect-error: a verifier that answers yes or no has no payload
void verifyTokenCached('a.b.c', () => true);
// @ts-expect-error: a payload is an object
void getCachedJWTPayload<string>('a.b.c');
// @ts-expect-error: without a verifier there is nothing to fall back to
void verifyTokenCached('a.b.c');
