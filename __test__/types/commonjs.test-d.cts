/** The package as `require` sees it. Compiled, never run. */

import cache = require('bcos-cache');

import { expectType } from './expect-type.js';

const { isTokenBlacklisted, createEngine } = cache;
expectType<Promise<boolean>>()(isTokenBlacklisted('jti'));
expectType<cache.Engine>()(createEngine({ cacheStore: 'none' }));
const options: cache.EngineOptions = { redisHost: undefined };
cache.configure(options);
export const isClosed = (error: unknown): boolean => error instanceof cache.ClosedError;
// @ts-expect-error: there is no default export
void cache.default;
// @ts-expect-error: the module is not a function
cache();
