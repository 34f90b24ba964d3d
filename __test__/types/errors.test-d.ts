/** Type tests for the errors, and that `lib/errors.ts` is what `index.d.ts` promises. Compiled, never run. */

import * as cache from 'bcos-cache';
import type * as implementation from '../../lib/errors.js';
import { check, expectType, type Same } from './expect-type.js';

expectType<'E_CONFIG'>()(new cache.ConfigError('m').code);
expectType<'E_INVALID_ARGUMENT'>()(new cache.InvalidArgumentError('m').code);
expectType<'E_SOURCE_UNAVAILABLE'>()(new cache.SourceUnavailableError('m').code);
expectType<'E_STORE_UNAVAILABLE'>()(new cache.StoreUnavailableError('m').code);
expectType<'E_DEADLINE'>()(new cache.DeadlineError('m').code);
expectType<'E_OVERLOADED'>()(new cache.OverloadedError('m').code);
expectType<'E_SCOPE'>()(new cache.ScopeError('m').code);
expectType<'E_NOT_FOUND'>()(new cache.NotFoundError('m').code);
expectType<'E_CONFLICT'>()(new cache.ConflictError('m').code);
expectType<'E_RATE_LIMITED'>()(new cache.RateLimitedError('m').code);
expectType<'E_CLOSED'>()(new cache.ClosedError('m').code);
new cache.ConfigError('m', { field: 'REDIS_PORT', retryable: undefined, cause: new Error('why') });
new cache.NotFoundError('m', { reason: 'deleted' });
new cache.BcosCacheError('E_INTERNAL', 'm');
// @ts-expect-error: unknown code
new cache.BcosCacheError('E_OTHER', 'm');
// @ts-expect-error: the class fixes the code
new cache.ConfigError('E_CONFIG', 'm');

export function statusOf(error: unknown): number {
  if (!(error instanceof cache.BcosCacheError)) throw error;
  expectType<cache.ErrorCode>()(error.code);
  expectType<string | undefined>()(error.field);
  expectType<string | undefined>()(error.reason);
  expectType<boolean>()(error.retryable);
  expectType<unknown>()(error.cause);
  if (error instanceof cache.DeadlineError) expectType<'E_DEADLINE'>()(error.code);
  switch (error.code) {
    case 'E_INVALID_ARGUMENT':
      return 400;
    case 'E_SCOPE':
      return 403;
    case 'E_NOT_FOUND':
      return 404;
    case 'E_CONFLICT':
      return 409;
    case 'E_RATE_LIMITED':
      return 429;
    case 'E_CONFIG':
    case 'E_INTERNAL':
      return 500;
    case 'E_SOURCE_UNAVAILABLE':
    case 'E_STORE_UNAVAILABLE':
    case 'E_DEADLINE':
    case 'E_OVERLOADED':
    case 'E_CLOSED':
      return 503;
    default:
      return error.code satisfies never;
  }
}

export function rewrite(error: cache.BcosCacheError): void {
  // @ts-expect-error: what happened does not change afterwards
  error.code = 'E_CONFIG';
}

// Promise and implementation agree: same codes, same classes, each usable where the other is expected.
type Classes<Module> = {
  [Name in keyof Module as Module[Name] extends abstract new (
    ...args: never
  ) => Error
    ? Name
    : never]: Module[Name];
};
type Instances<Module> = {
  [Name in keyof Classes<Module>]: Classes<Module>[Name] extends abstract new (
    ...args: never
  ) => infer Instance
    ? Instance
    : never;
};
type Extends<A, B> = A extends B ? true : false;
check<Same<cache.ErrorCode, implementation.ErrorCode>>();
check<Same<keyof Classes<typeof cache>, keyof Classes<typeof implementation>>>();
check<Extends<Classes<typeof implementation>, Classes<typeof cache>>>();
check<Extends<Instances<typeof cache>, Instances<typeof implementation>>>();
