/**
 * `authorizeRequest`: asks for everything at once and walks the steps of `decide`. Not the rules: those are in
 * `decide.ts`, as a pure function.
 * Invariant: whatever the client sent ends in a result, never in an argument error; whatever the application
 * got wrong is an argument error, never a result.
 */

import type * as Public from '../index.js';
import { check, remaining } from './arguments.js';
import { type Consistency, WORDS } from './consistency.js';
import { userOf } from './contexts.js';
import { decide, denied, type Facts, limited, unavailable } from './decide.js';
import { BcosCacheError, InvalidArgumentError, NotFoundError } from './errors.js';
import type { Spec } from './limiter/limits.js';
import { type Asked, type ReadLimits, readRequest, type Verify } from './request.js';

/** What is asked in one round trip; `null` = take it from the token's text, or there is none. */
export interface Question {
  readonly token: string | null;
  readonly tokenId: string | null;
  readonly userId: string | null;
  readonly checkToken: boolean;
  readonly consistency: Consistency;
  /** `null` = counted already, or against none. */
  readonly limits: readonly Spec[] | null;
}

/** What came back; the ids are those that were used. */
export interface Answers {
  /** `null` = not asked. */
  readonly revoked: boolean | null;
  readonly payload: object | null;
  readonly context: Public.UserContext | undefined;
  /** Why there is no context. */
  readonly denied: string | null;
  readonly tokenId: string | null;
  readonly userId: string | null;
  /** `null` = not asked. When it denies, nothing else is known. */
  readonly limits: Public.CombinedRateLimitResult | null;
}

type Options = Public.CallOptions | undefined;

/** The engine, as far as it is needed here. */
export interface Port {
  /** Claims that may hold the user id, tried in order. */
  readonly userClaims: readonly string[];
  answers(question: Question, options: Options): Promise<Answers>;
  verify(token: string, verify: Verify, options: Options): Promise<object>;
  context(userId: string, options: Public.ContextOptions): Promise<Public.UserContext>;
  readonly readLimits: ReadLimits;
  limit(limits: readonly Spec[], options: Options): Promise<Public.CombinedRateLimitResult>;
}

export async function authorize(
  port: Port,
  request: unknown,
  options: Options,
): Promise<Public.AuthorizeResult<object>> {
  const asked = readRequest(request, port.readLimits);
  if (options !== undefined) check(options);
  try {
    if (asked.token === '') return await limitedOr(port, asked, denied('token_missing'), options);
    // A header cannot carry this, a request body can; it would change on its way across.
    if (asked.token?.isWellFormed() === false) {
      return await limitedOr(port, asked, denied('token_invalid'), options);
    }
    return await walk(port, asked, options);
  } catch (error) {
    options?.signal?.throwIfAborted();
    if (isFromClient(error, asked)) return denied('token_invalid', error);
    const result = unavailable(error);
    if (result === undefined) throw error;
    return result;
  }
}

/** A request that needs no look at anything counts nevertheless: it may be one of many guesses. */
async function limitedOr(
  port: Port,
  { limits }: Asked,
  otherwise: Public.AuthorizeDenied,
  options: Options,
): Promise<Public.AuthorizeDenied> {
  if (limits === null) return otherwise;
  const told = await port.limit(limits, options);
  return told.allowed ? { ...otherwise, rateLimit: told } : limited(told);
}

async function walk(port: Port, asked: Asked, options: Options): Promise<Public.AuthorizeResult<object>> {
  const until = performance.now() + (options?.deadlineMs ?? 0);
  let facts = await begin(port, asked, options);
  for (;;) {
    const step = decide(asked, facts, port.userClaims);
    if (step.go === 'end') return withLimits(step.result, facts);
    if (step.go === 'grant') {
      const { context, payload, tokenId } = step;
      const userId = context.user_id;
      return withLimits({ ok: true, userId, tokenId, payload, user: userOf(context), context }, facts);
    }
    const rest = remaining(options, until);
    if (step.go === 'verify') facts = await verified(port, step.token, step.verify, facts, rest);
    else if (step.go === 'check') facts = await checked(port, asked, step, facts, rest);
    else facts = await loaded(port, step.userId, asked.consistency, facts, rest);
  }
}

/** What the limits said belongs to every answer that was not theirs. */
function withLimits<T extends Public.AuthorizeResult<object>>(result: T, { limits }: Facts): T {
  return limits === null ? result : { ...result, rateLimit: limits };
}

/** Everything in one round trip. */
async function begin(port: Port, asked: Asked, options: Options): Promise<Facts> {
  const { token, tokenId = null, userId, checkToken, consistency, limits } = asked;
  const failure = undefined;
  if (token === null && !checkToken && limits === null) {
    // Only a context is asked for, and that may be near.
    return {
      revoked: null,
      payload: null,
      context: undefined,
      denied: null,
      tokenId,
      userId,
      limits,
      failure,
    };
  }
  const answers = await port.answers({ token, tokenId, userId, checkToken, consistency, limits }, options);
  return { ...answers, failure };
}

/** Runs the application's verification; what it throws is about the token, what the engine throws is not. */
async function verified(
  port: Port,
  token: string,
  verify: Verify,
  facts: Facts,
  options: Options,
): Promise<Facts> {
  let failure: { readonly cause: unknown } | undefined;
  const run = async (text: string): Promise<object> => {
    try {
      return await verify(text);
    } catch (cause) {
      failure = { cause };
      throw cause;
    }
  };
  try {
    return { ...facts, payload: await port.verify(token, run, options) };
  } catch (cause) {
    options?.signal?.throwIfAborted();
    // Not its own failure and not the engine's: somebody else's verification of this token, for which this call
    // waited, or a result that is no payload.
    if (failure === undefined && isEngines(cause)) throw cause;
    return { ...facts, failure: failure ?? { cause } };
  }
}

/** Blacklist and context in one round trip, for ids that are certain by now. */
async function checked(
  port: Port,
  asked: Asked,
  { tokenId, userId }: { readonly tokenId: string; readonly userId: string },
  facts: Facts,
  options: Options,
): Promise<Facts> {
  const { consistency } = asked;
  const question = { token: null, tokenId, userId, checkToken: true, consistency, limits: null };
  const { revoked, context, denied } = await port.answers(question, options);
  if (revoked === null) throw new BcosCacheError('E_INTERNAL', 'the blacklist was not asked');
  return { ...facts, revoked, context, denied };
}

async function loaded(
  port: Port,
  userId: string,
  wanted: Consistency,
  facts: Facts,
  options: Options,
): Promise<Facts> {
  try {
    const context = await port.context(userId, { ...options, consistency: WORDS[wanted] });
    return { ...facts, userId, context };
  } catch (error) {
    if (!(error instanceof NotFoundError)) throw error;
    return { ...facts, userId, denied: error.reason ?? 'unknown' };
  }
}

/** Whether an argument is refused that the client chose: the token, or an id taken from it. */
function isFromClient(error: unknown, { token, tokenId, userId }: Asked): boolean {
  if (token === null || !(error instanceof InvalidArgumentError)) return false;
  if (error.field === 'token') return true;
  return (
    (error.field === 'tokenId' && tokenId === undefined) || (error.field === 'userId' && userId === null)
  );
}

function isEngines(error: unknown): boolean {
  if (!(error instanceof BcosCacheError)) return false;
  return unavailable(error) !== undefined || error.code === 'E_CLOSED' || error.code === 'E_INTERNAL';
}
