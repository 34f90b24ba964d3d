/** Type tests for "Rate limits". Compiled, never run. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import {
  type AppliedRateLimit,
  addRateLimitHeaders,
  applyRateLimit,
  authorizeRequest,
  blockRateLimit,
  type CombinedRateLimitResult,
  checkEndpointRateLimit,
  checkGlobalRateLimit,
  checkIpRateLimit,
  checkRateLimit,
  checkRateLimits,
  checkUserRateLimit,
  createEngine,
  getRateLimitKey,
  type InvalidationResult,
  type LimiterHealth,
  type LimiterMetrics,
  type LimiterResult,
  type OnStoreFailure,
  peekRateLimit,
  type RateLimitCheck,
  type RateLimitResult,
  RedisRateLimiter,
  rateLimitResponse,
  resetRateLimit,
  rewardRateLimit,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

check<Same<OnStoreFailure, 'local' | 'open' | 'closed'>>();
expectType<Promise<RateLimitResult>>()(checkRateLimit('export', 'u', 10, 60));
expectType<Promise<RateLimitResult>>()(checkRateLimit('export', 'u', 10, 60, { cost: 2, deadlineMs: 5 }));
expectType<Promise<RateLimitResult>>()(checkIpRateLimit('::1', 10, 60));
expectType<Promise<RateLimitResult>>()(checkUserRateLimit('u', 10, 60, { onStoreFailure: 'closed' }));
expectType<Promise<RateLimitResult>>()(checkEndpointRateLimit('/export', 10, 60));
expectType<Promise<RateLimitResult>>()(checkGlobalRateLimit(10, 60));
expectType<Promise<RateLimitResult>>()(peekRateLimit('export', 'u', 10, 60));
expectType<Promise<InvalidationResult>>()(resetRateLimit('export', 'u'));
expectType<Promise<void>>()(blockRateLimit('export', 'u', 10, 60, 3_600));
expectType<Promise<void>>()(rewardRateLimit('export', 'u', 10, 60, 1));
// @ts-expect-error: the window is missing
void checkRateLimit('export', 'u', 10);
// @ts-expect-error: no such policy
void checkRateLimit('export', 'u', 10, 60, { onStoreFailure: 'allow' });

// Several: with figures, or by name.
const several: readonly RateLimitCheck[] = [
  { type: 'ip', identifier: 'a', limit: 5, windowSeconds: 1 },
  { type: 'api', identifier: 'u' },
];
expectType<Promise<CombinedRateLimitResult>>()(checkRateLimits(several));
export async function tightest(): Promise<number> {
  const combined = await checkRateLimits(several);
  expectType<readonly RateLimitResult[]>()(combined.results);
  // @ts-expect-error: read-only
  combined.allowed = true;
  return combined.results[0]?.remaining ?? combined.remaining;
}

// As an object.
const limiter = new RedisRateLimiter(900_000, 20, { name: 'login', engine: createEngine() });
expectType<Promise<LimiterResult>>()(limiter.checkLimit('u'));
check<Same<LimiterResult['success' | 'allowed'], boolean>>();
check<Same<LimiterResult['remaining' | 'resetTime'], number>>();
// @ts-expect-error: numbers are expected
new RedisRateLimiter('15m', 20);

// HTTP: the web's and Node's.
export async function route(request: Request): Promise<Response> {
  const limit = await applyRateLimit(request, 'api', { trustedProxies: ['10.0.0.0/8'] });
  expectType<AppliedRateLimit>()(limit);
  if (limit.response) return limit.response;
  return addRateLimitHeaders(new Response('ok'), limit);
}
export async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const key = getRateLimitKey(request, { trustedProxies: 1, remoteAddress: request.socket.remoteAddress });
  expectType<string | null>()(key);
  const limit = await applyRateLimit(request);
  expectType<ServerResponse>()(addRateLimitHeaders(response, limit));
}
export async function authorized(request: Request, token: string): Promise<Response> {
  const identifier = getRateLimitKey(request, { trustedProxies: 1 }) ?? 'internal';
  const result = await authorizeRequest({ token, limit: { type: 'api', identifier } });
  expectType<CombinedRateLimitResult | undefined>()(result.rateLimit);
  if (!result.ok && result.reason === 'rate_limited' && result.rateLimit !== undefined) {
    return rateLimitResponse(result.rateLimit, { headers: { 'x-request-id': '1' } });
  }
  return new Response(null);
}

check<Same<LimiterHealth['status'], 'healthy' | 'degraded'>>();
check<Same<LimiterMetrics['deniedNear'], number>>();
createEngine({
  rateLimits: { export: { limit: 5, windowSeconds: 60, onStoreFailure: 'open' } },
  rateLimitTrustedProxies: 1,
});
// @ts-expect-error: a window is needed
createEngine({ rateLimits: { export: { limit: 5 } } });
