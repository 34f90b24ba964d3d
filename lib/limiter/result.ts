/**
 * What the check of a limit answers, and what several answers mean together. Not the decision: that is made where
 * the counting is.
 * Invariant: together they allow only what every one of them allows.
 */

import { InvalidArgumentError } from '../errors.js';

export interface RateLimitResult {
  readonly allowed: boolean;
  /** Counted in the window now, this check included when it was admitted. */
  readonly current: number;
  readonly limit: number;
  readonly remaining: number;
  /** Unix milliseconds at which all of it is back. */
  readonly resetTime: number;
  /** The same in whole Unix seconds, rounded up. */
  readonly resetAt: number;
  /** 0: allowed; `Infinity`: never, it costs more than the limit. */
  readonly retryAfterMs: number;
  /** Until more of it is back; 0: all of it is there. */
  readonly replenishAfterMs: number;
  /** Decided without the shared store. */
  readonly degraded: boolean;
  /** Denied because nobody could tell, not because the limit is used up. */
  readonly unavailable?: true | undefined;
  /** The name of the limit, any text. */
  readonly type: string;
  readonly windowSeconds: number;
}

/** The fields are those of the limit that decides, except `degraded`: that holds when it does for any. */
export interface CombinedRateLimitResult extends RateLimitResult {
  readonly results: readonly RateLimitResult[];
}

const COUNTS = ['limit', 'remaining', 'resetAt', 'windowSeconds'] as const;
/** May also be `Infinity`. */
const WAITS = ['retryAfterMs', 'replenishAfterMs'] as const;

/** Who is asked to wait longest decides; when all admit it, the one of which the smallest share is left. */
export function combine(results: readonly RateLimitResult[]): CombinedRateLimitResult {
  const denied = results.filter(({ allowed }) => !allowed);
  const deciding =
    denied.length > 0
      ? denied.reduce((one, other) => (other.retryAfterMs > one.retryAfterMs ? other : one))
      : results.reduce<RateLimitResult | undefined>(
          (one, other) => (one === undefined || shareLeft(other) < shareLeft(one) ? other : one),
          undefined,
        );
  if (deciding === undefined) {
    const message = 'results is not accepted: none was given, and no limit at all admits nothing';
    throw new InvalidArgumentError(message, { field: 'results' });
  }
  return { ...deciding, degraded: results.some(({ degraded }) => degraded), results: [...results] };
}

/** The single ones of an answer, or a refusal: what is no answer must not become a header. */
export function resultsOf(result: RateLimitResult | CombinedRateLimitResult): readonly RateLimitResult[] {
  const results = isObject(result) && 'results' in result ? result.results : [result];
  if (isResult(result) && Array.isArray(results) && results.length > 0 && results.every(isResult))
    return results;
  const accepted = 'what the check of a limit answered is expected';
  throw new InvalidArgumentError(`result is not accepted: ${accepted}`, { field: 'result' });
}

/**
 * How long whoever was denied should wait: a limit that is used up keeps refusing until something of it is back,
 * also when another one decided. `Infinity`: waiting does not help.
 */
export function waitMs(result: RateLimitResult | CombinedRateLimitResult): number {
  const usedUp = resultsOf(result).filter(({ remaining }) => remaining <= 0);
  return Math.max(result.retryAfterMs, ...usedUp.map(({ replenishAfterMs }) => replenishAfterMs));
}

/** Of a limit of nothing nothing is left. */
function shareLeft({ remaining, limit }: RateLimitResult): number {
  return limit > 0 ? remaining / limit : 0;
}

function isResult(value: unknown): value is RateLimitResult {
  if (!isObject(value)) return false;
  const given = value as Partial<Record<keyof RateLimitResult, unknown>>;
  return (
    typeof given.allowed === 'boolean' &&
    typeof given.type === 'string' &&
    COUNTS.every((name) => Number.isFinite(given[name])) &&
    WAITS.every((name) => typeof given[name] === 'number' && !Number.isNaN(given[name]))
  );
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
