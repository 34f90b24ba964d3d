/**
 * What becomes of a request, as a pure function of what was asked and what is known so far. It asks nobody and
 * runs nothing: when something is missing it says what to get next.
 * Invariant: a user is let in only under the id that a verified payload names, or that the application vouches
 * for when there is no token; everything unexpected is a refusal or a defect, never an entrance.
 */

import type * as Public from '../index.js';
import type { Answers } from './authorize.js';
import { hasPermission } from './contexts.js';
import { BcosCacheError } from './errors.js';
import type { Asked, Verify } from './request.js';

export interface Facts extends Answers {
  /** The verification failed. */
  readonly failure: { readonly cause: unknown } | undefined;
}

export type Step =
  | { readonly go: 'end'; readonly result: Public.AuthorizeDenied }
  | { readonly go: 'verify'; readonly token: string; readonly verify: Verify }
  | { readonly go: 'load'; readonly userId: string }
  /** The blacklist, and the context with it: until the token was verified only the cache was asked. */
  | { readonly go: 'check'; readonly tokenId: string; readonly userId: string }
  | {
      readonly go: 'grant';
      readonly context: Public.UserContext;
      readonly payload: object | null;
      readonly tokenId: string | null;
    };

/** How long a client should wait before it asks again. */
const RETRY_MS = 1_000;

const DENIALS: Readonly<
  Record<Public.AuthorizeReason, readonly [status: 401 | 403 | 429 | 503, message: string]>
> = {
  token_missing: [401, 'the request carries no token'],
  token_invalid: [401, 'the token is not valid'],
  token_unverified: [401, 'the token was not verified before, and there is nothing to verify it with'],
  token_revoked: [401, 'the token was revoked'],
  token_mismatch: [401, 'the verified token names another user'],
  user_unknown: [401, 'there is no such user'],
  user_inactive: [401, 'the user is deactivated'],
  user_deleted: [401, 'the user was deleted'],
  forbidden: [403, 'the user lacks a permission that is needed'],
  rate_limited: [429, 'there were too many requests'],
  unavailable: [503, 'nobody can tell at the moment'],
};

const UNAVAILABLE: ReadonlySet<string> = new Set<Public.ErrorCode>([
  'E_SOURCE_UNAVAILABLE',
  'E_STORE_UNAVAILABLE',
  'E_DEADLINE',
  'E_OVERLOADED',
]);

export function denied(reason: Public.AuthorizeReason, cause?: unknown): Public.AuthorizeDenied {
  const [status, message] = DENIALS[reason];
  return cause === undefined
    ? { ok: false, reason, status, message }
    : { ok: false, reason, status, message, cause };
}

/** The result for an error that says nothing about the request; `undefined` for any other error. */
export function unavailable(error: unknown): Public.AuthorizeDenied | undefined {
  if (!(error instanceof BcosCacheError) || !UNAVAILABLE.has(error.code)) return undefined;
  return { ...denied('unavailable', error), retryAfterMs: RETRY_MS };
}

/** The result for a request beyond its limits. */
export function limited(limits: Public.CombinedRateLimitResult): Public.AuthorizeDenied {
  const { retryAfterMs } = limits;
  const result = denied(limits.unavailable === true ? 'unavailable' : 'rate_limited');
  return { ...result, retryAfterMs, rateLimit: limits };
}

/** The next step; `userClaims` are tried in order. */
export function decide(asked: Asked, facts: Facts, userClaims: readonly string[]): Step {
  if (facts.limits?.allowed === false) return { go: 'end', result: limited(facts.limits) };
  // Before the token is verified: a revoked one is not worth it.
  if (asked.checkToken) {
    if (facts.tokenId === null) return end('token_invalid');
    if (facts.revoked === true) return end('token_revoked');
  }
  let userId = asked.userId;
  if (asked.token !== null) {
    if (facts.failure !== undefined) return end('token_invalid', facts.failure.cause);
    const { payload } = facts;
    if (payload === null) {
      const { token, verify } = asked;
      return verify === undefined ? end('token_unverified') : { go: 'verify', token, verify };
    }
    const named = claimed(payload, userClaims);
    if (named === null && asked.userId === null && facts.userId === null) return end('token_invalid');
    if (named === null || !agree(named, asked.userId) || !agree(named, facts.userId))
      return end('token_mismatch');
    const jti = claimed(payload, ['jti']);
    if (asked.tokenId === undefined && jti !== null && jti !== facts.tokenId) return end('token_mismatch');
    userId = named;
  }
  if (userId === null) return defect('a request without a user');
  // Not known is not "not revoked".
  if (asked.checkToken && facts.revoked === null && facts.tokenId !== null)
    return { go: 'check', tokenId: facts.tokenId, userId };
  return enter(asked, facts, userId);
}

/** The second half: the user is certain. */
function enter(asked: Asked, facts: Facts, userId: string): Step {
  if (facts.denied !== null) return end(userDenial(facts.denied));
  const { context, payload, tokenId } = facts;
  if (context === undefined) return { go: 'load', userId };
  if (!agree(context.user_id, userId)) return defect('the context of another user');
  if (!asked.permissions.every((permission) => hasPermission(context, permission))) return end('forbidden');
  return { go: 'grant', context, payload, tokenId };
}

/** A denial this build does not know is one nevertheless. */
function userDenial(word: string): Public.AuthorizeReason {
  if (word === 'inactive') return 'user_inactive';
  return word === 'deleted' ? 'user_deleted' : 'user_unknown';
}

/** The first of these claims that is a text. Own properties only: a payload inherits from everything. */
function claimed(payload: object, claims: readonly string[]): string | null {
  for (const claim of claims) {
    const value: unknown = Object.hasOwn(payload, claim) ? Reflect.get(payload, claim) : undefined;
    if (typeof value === 'string' && value !== '') return value;
  }
  return null;
}

/** Ids are uuids, whose case does not count; nothing said is no contradiction. */
function agree(named: string, other: string | null): boolean {
  return other === null || named === other || named.toLowerCase() === other.toLowerCase();
}

function end(reason: Public.AuthorizeReason, cause?: unknown): Step {
  return { go: 'end', result: denied(reason, cause) };
}

function defect(message: string): never {
  throw new BcosCacheError('E_INTERNAL', `the native side answered unexpectedly: ${message}`);
}
