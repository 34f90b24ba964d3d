/** The package as an ES module sees it: named imports, a namespace and a dynamic import. Compiled, never run. */

import * as cache from 'bcos-cache';
import { ClosedError, createEngine, type Engine, isTokenBlacklisted } from 'bcos-cache';
import { expectType } from './expect-type.js';

expectType<Promise<boolean>>()(isTokenBlacklisted('jti'));
expectType<Promise<boolean>>()(cache.isTokenBlacklisted('jti'));
expectType<Engine>()(createEngine());
export const isClosed = (error: unknown): boolean => error instanceof ClosedError;

const late = await import('bcos-cache');
expectType<Engine>()(late.getEngine());

await using engine = cache.createEngine({ cacheStore: 'embedded' });
expectType<Promise<boolean>>()(engine.isTokenBlacklisted('jti'));

// @ts-expect-error: no such name
import { isTokenBlackListed } from 'bcos-cache';

export { isTokenBlackListed };
