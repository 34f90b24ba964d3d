/**
 * The answer to a request that a limit denies, as application/problem+json (RFC 9457) with the problem types of
 * draft-ietf-httpapi-ratelimit-headers. Not a decision, and nothing of who was denied is in it.
 * Invariant: an admitted request gets none, and body and headers say the same.
 */

import { InvalidArgumentError } from '../errors.js';
import { addRateLimitHeaders, policyName } from './fields.js';
import { type CombinedRateLimitResult, type RateLimitResult, resultsOf, waitMs } from './result.js';

export interface RateLimitResponseInit {
  /** Added; the ones of the problem itself win. */
  readonly headers?: ResponseInit['headers'] | undefined;
}

interface Problem {
  readonly status: 429 | 503;
  readonly type: string;
  readonly title: string;
}

const TYPES = 'https://iana.org/assignments/http-problem-types';
const QUOTA_EXCEEDED: Problem = {
  status: 429,
  type: `${TYPES}#quota-exceeded`,
  title: 'Request cannot be satisfied as assigned quota has been exceeded',
};
const REDUCED_CAPACITY: Problem = {
  status: 503,
  type: `${TYPES}#temporary-reduced-capacity`,
  title: 'Request cannot be satisfied due to temporary server capacity constraints',
};

export function rateLimitResponse(
  result: RateLimitResult | CombinedRateLimitResult,
  init: RateLimitResponseInit = {},
): Response {
  const denied = resultsOf(result).filter(({ allowed }) => !allowed);
  if (result.allowed) throw refused('result', 'the request was admitted; only a denied one gets this answer');
  const headers = readHeaders(init);
  headers.set('content-type', 'application/problem+json');
  headers.set('cache-control', 'no-store');
  const { status, type, title } = result.unavailable === true ? REDUCED_CAPACITY : QUOTA_EXCEEDED;
  const wait = waitMs(result);
  const body = {
    type,
    title,
    status,
    detail: detailOf(result, wait),
    'violated-policies': denied.map((one) => policyName(one.type)),
    ...(wait === Number.POSITIVE_INFINITY ? {} : { retryAfterMs: wait }),
  };
  return addRateLimitHeaders(new Response(JSON.stringify(body), { status, headers }), result);
}

function detailOf(
  { limit, windowSeconds, retryAfterMs, unavailable }: RateLimitResult,
  wait: number,
): string {
  const allowance = `${limit} per ${windowSeconds} s`;
  if (unavailable === true) return 'Nobody can tell at the moment whether a limit allows this request.';
  if (retryAfterMs === Number.POSITIVE_INFINITY)
    return `This request costs more than the limit of ${allowance}.`;
  if (wait === Number.POSITIVE_INFINITY) return `The limit of ${allowance} is used up.`;
  return `The limit of ${allowance} is used up; try again in ${Math.max(1, Math.ceil(wait / 1_000))} s.`;
}

function readHeaders(init: unknown): Headers {
  if (typeof init !== 'object' || init === null) throw refused('init', 'an object with headers is expected');
  for (const name of Object.keys(init)) {
    if (name !== 'headers') throw refused(name, 'unknown; only headers is known');
  }
  const { headers } = init as RateLimitResponseInit;
  try {
    return new Headers(headers);
  } catch (cause) {
    throw refused('headers', 'what a Headers can be made of is expected', cause);
  }
}

function refused(field: string, why: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field, cause });
}
