/**
 * Every asynchronous function of the product as data: how it is called and which answers are the truth. Not a
 * schedule: specs decide when to call them and what is broken meanwhile.
 * Invariant: no call here changes what is true, so the table can be run again and again on one world.
 */
import { randomUUID } from 'node:crypto';
import { BcosCacheError, type CallOptions, type Engine, type ErrorCode } from '../../index.js';
import { dashboardFunctions } from './dashboard-functions.js';
import type { Database, UserRow } from './database.js';
import { limitFunctions } from './limit-functions.js';
import { addRights, rbacFunctions } from './rbac-functions.js';
import { resultFunctions } from './result-functions.js';
import { type Claims, claimsOf, forged, signed, verified } from './tokens.js';
import { warmFunctions } from './warm-functions.js';

/** What is true in the source while the functions are called. */
export interface World {
  user: UserRow;
  readonly deactivated: UserRow;
  /** Has a row in `token_blacklist`. */
  readonly revoked: string;
  /** Has none. */
  readonly clean: string;
  /** A token of `user` that the application's own verification accepts. */
  readonly token: string;
  readonly claims: Claims & { jti: string };
  /** Held by `user`: reads the analytics of practice 41, which is in `organization`. */
  readonly role: string;
  readonly organization: string;
}

export async function newWorld(database: Database): Promise<World> {
  const user = await database.addUser();
  const revoked = randomUUID();
  await database.revoke(revoked);
  const claims = claimsOf(user.user_id);
  return {
    user,
    deactivated: await database.addUser({ is_active: null }),
    revoked,
    clean: randomUUID(),
    token: signed(claims),
    claims,
    ...(await addRights(database, user.user_id)),
  };
}

/** How a call ended, and after how long. */
export type Ended = ({ readonly value: unknown } | { readonly error: unknown }) & { readonly ms: number };

export async function timed(call: () => Promise<unknown>): Promise<Ended> {
  const start = performance.now();
  try {
    const value = await call();
    return { value, ms: performance.now() - start };
  } catch (error) {
    return { error, ms: performance.now() - start };
  }
}

export interface Row {
  readonly name: keyof Engine & string;
  /** Which case of the function. */
  readonly of: string;
  /**
   * `cache`: what the cache knows, so "unknown" is a right answer. `source`: the store or, when that cannot tell,
   * the source. `invalidation`: needs neither at once. `store`: nobody else can do it.
   */
  readonly asks: 'cache' | 'source' | 'invalidation' | 'store';
  call(engine: Engine, world: World): Promise<unknown>;
  /** Whether a value is the truth. */
  right(value: unknown, world: World): boolean;
}

const isUser = (value: unknown, user: UserRow): boolean =>
  typeof value === 'object' &&
  value !== null &&
  Object.entries({ user_id: user.user_id, email: user.email, first_name: user.first_name }).every(
    ([name, expected]) => (value as Record<string, unknown>)[name] === expected,
  );

const isPayload = (value: unknown, { claims }: World): boolean =>
  JSON.stringify(value) === JSON.stringify(claims);

const isBoolean = (value: unknown): boolean => typeof value === 'boolean';

/** Either in effect or queued, never neither. */
const isInvalidation = (value: unknown): boolean => {
  const { acknowledged, queued } = value as { acknowledged: unknown; queued: unknown };
  return isBoolean(acknowledged) && isBoolean(queued) && acknowledged !== queued;
};

const isHealth = (value: unknown): boolean =>
  ['healthy', 'degraded', 'down'].includes((value as { status: string }).status);

export const functions: readonly Row[] = [
  {
    name: 'isTokenBlacklisted',
    of: 'a revoked token',
    asks: 'source',
    call: (engine, world) => engine.isTokenBlacklisted(world.revoked),
    right: (value) => value === true,
  },
  {
    name: 'isTokenBlacklisted',
    of: 'a token that is not revoked',
    asks: 'source',
    call: (engine, world) => engine.isTokenBlacklisted(world.clean),
    right: (value) => value === false,
  },
  {
    name: 'isTokenBlacklisted',
    of: 'a token nobody asked for before',
    asks: 'source',
    call: (engine) => engine.isTokenBlacklisted(randomUUID()),
    right: (value) => value === false,
  },
  {
    name: 'getCachedTokenBlacklistStatus',
    of: 'a revoked token',
    asks: 'cache',
    call: (engine, world) => engine.getCachedTokenBlacklistStatus(world.revoked),
    right: (value) => value === true || value === null,
  },
  {
    name: 'getCachedTokenBlacklistStatus',
    of: 'a token that is not revoked',
    asks: 'cache',
    call: (engine, world) => engine.getCachedTokenBlacklistStatus(world.clean),
    right: (value) => value === false || value === null,
  },
  {
    name: 'cacheTokenBlacklistStatus',
    of: 'false',
    asks: 'cache',
    call: (engine, world) => engine.cacheTokenBlacklistStatus(world.clean, false),
    right: isBoolean,
  },
  {
    name: 'cacheTokenBlacklistStatus',
    of: 'true',
    asks: 'invalidation',
    call: (engine, world) => engine.cacheTokenBlacklistStatus(world.revoked, true),
    right: isBoolean,
  },
  {
    name: 'invalidateTokenCache',
    of: 'a revoked token',
    asks: 'invalidation',
    call: (engine, world) => engine.invalidateTokenCache(world.revoked),
    right: isInvalidation,
  },
  {
    name: 'blacklistToken',
    of: 'a new token, which is then revoked whatever the answer was',
    asks: 'source',
    call: async (engine, world) => {
      const jti = randomUUID();
      const revocation = {
        jti,
        userId: world.user.user_id,
        tokenType: 'access',
        expiresAt: Date.now() + 60_000,
        reason: 'logout',
      };
      const ended = await timed(() => engine.blacklistToken(revocation));
      if (!(await engine.isTokenBlacklisted(jti))) return 'a token that counts after it was blacklisted';
      if ('error' in ended) throw ended.error;
      return ended.value;
    },
    right: (value) =>
      typeof value === 'object' &&
      isInvalidation(value) &&
      (value as { inserted: unknown }).inserted === true,
  },
  {
    name: 'getUserById',
    of: 'a user',
    asks: 'source',
    call: (engine, world) => engine.getUserById(world.user.user_id),
    right: (value, world) => isUser(value, world.user),
  },
  {
    name: 'getUserById',
    of: 'a deactivated user',
    asks: 'source',
    call: (engine, world) => engine.getUserById(world.deactivated.user_id),
    right: (value) => value === null,
  },
  {
    name: 'getUserById',
    of: 'an unknown user',
    asks: 'source',
    call: (engine) => engine.getUserById(randomUUID()),
    right: (value) => value === null,
  },
  {
    name: 'getUserByEmail',
    of: 'a user',
    asks: 'source',
    call: (engine, world) => engine.getUserByEmail(world.user.email),
    right: (value, world) => isUser(value, world.user),
  },
  {
    name: 'getUserByEmail',
    of: 'a deactivated user',
    asks: 'source',
    call: (engine, world) => engine.getUserByEmail(world.deactivated.email),
    right: (value) => value === null,
  },
  {
    name: 'getCachedUserBasic',
    of: 'a user',
    asks: 'cache',
    call: (engine, world) => engine.getCachedUserBasic(world.user.user_id),
    right: (value, world) => value === null || isUser(value, world.user),
  },
  {
    name: 'cacheUserBasic',
    of: 'a user as the source has it',
    asks: 'source',
    call: (engine, { user }) => engine.cacheUserBasic(user.user_id, user),
    right: isBoolean,
  },
  {
    name: 'invalidateUserCache',
    of: 'a user',
    asks: 'invalidation',
    call: (engine, world) => engine.invalidateUserCache(world.user.user_id),
    right: isInvalidation,
  },
  {
    name: 'verifyTokenCached',
    of: 'a valid token',
    asks: 'cache',
    call: (engine, world) => engine.verifyTokenCached(world.token, verified),
    right: isPayload,
  },
  {
    name: 'verifyTokenCached',
    of: 'a forged token, which its own verification must have refused',
    asks: 'cache',
    call: (engine, world) =>
      engine.verifyTokenCached(forged(world.token), verified).catch((error: Error) => error.message),
    right: (value) => value === 'invalid signature',
  },
  {
    name: 'getCachedJWTPayload',
    of: 'a valid token',
    asks: 'cache',
    call: (engine, world) => engine.getCachedJWTPayload(world.token),
    right: (value, world) => value === null || isPayload(value, world),
  },
  {
    name: 'getCachedJWTPayload',
    of: 'a forged token',
    asks: 'cache',
    call: (engine, world) => engine.getCachedJWTPayload(forged(world.token)),
    right: (value) => value === null,
  },
  {
    name: 'cacheJWTPayload',
    of: 'a verified payload',
    asks: 'cache',
    call: (engine, world) => engine.cacheJWTPayload(world.token, world.claims),
    right: isBoolean,
  },
  {
    name: 'invalidateJWTPayload',
    of: 'a token',
    asks: 'invalidation',
    call: (engine, world) => engine.invalidateJWTPayload(world.claims.jti),
    right: isInvalidation,
  },
  {
    name: 'invalidateAllUserTokens',
    of: 'a user',
    asks: 'invalidation',
    call: (engine, world) => engine.invalidateAllUserTokens(world.user.user_id),
    right: isInvalidation,
  },
  ...rbacFunctions,
  ...limitFunctions,
  ...resultFunctions,
  ...dashboardFunctions,
  ...warmFunctions,
  {
    name: 'getHealth',
    of: 'the engine',
    asks: 'cache',
    call: (engine) => engine.getHealth(),
    right: isHealth,
  },
];

/** Errors that say "cannot tell now". */
const HONEST: readonly ErrorCode[] = ['E_SOURCE_UNAVAILABLE', 'E_DEADLINE'];

export interface Conditions {
  /** With the source in order nothing that reads may fail, whatever the store does. */
  readonly source: 'up' | 'down';
  /** Longest a read may take, in milliseconds. */
  readonly withinMs: number;
  /** The calls carry a deadline of their own, which may end any of them. */
  readonly impatient?: boolean | undefined;
}

/** After a failure a moment ago an invalidation also waits this long for the replay that follows a hiccup. */
const PATIENCE_MS = 500;

const limitOf = (row: Row, { withinMs, impatient = false }: Conditions): number =>
  !impatient && (row.asks === 'invalidation' || row.name === 'blacklistToken')
    ? withinMs + PATIENCE_MS
    : withinMs;

/** The same engine, every asynchronous call with these options. */
export function calling(engine: Engine, options: CallOptions): Engine {
  const asynchronous = new Set<string | symbol>(functions.map((row) => row.name));
  asynchronous.delete('getHealth');
  asynchronous.delete('getCacheHealth');
  return new Proxy(engine, {
    get(target, name) {
      const method: unknown = Reflect.get(target, name, target);
      if (typeof method !== 'function') return method;
      return (...given: unknown[]): unknown => {
        if (!asynchronous.has(name)) return method.apply(target, given);
        // What the table calls with options of its own keeps them.
        const mine = { getCachedUserContext: 2, applyRateLimit: 3, queryDataSourceWithCache: 5 }[
          name as string
        ];
        const own = given.length === mine ? (given.pop() as object) : {};
        // The flag in front of its options may be left out.
        if (name === 'queryDataSourceWithCache') given.length = 4;
        return method.apply(target, [...given, { ...own, ...options }]);
      };
    },
  });
}

/** What is wrong with how a call ended; nothing when it told the truth, or honestly could not, in time. */
export function complaint(row: Row, world: World, ended: Ended, conditions: Conditions): string | undefined {
  const label = `${row.name} of ${row.of}`;
  const limit = limitOf(row, conditions);
  if (ended.ms > limit) return `${label}: ${ended.ms.toFixed(0)} ms > ${limit} ms`;
  if ('value' in ended) {
    return row.right(ended.value, world) ? undefined : `${label}: answered ${JSON.stringify(ended.value)}`;
  }
  const { error } = ended;
  const code = error instanceof BcosCacheError ? error.code : undefined;
  if (code === 'E_DEADLINE' && conditions.impatient) return undefined;
  const honest = code !== undefined && HONEST.includes(code);
  if (honest && conditions.source === 'down' && row.asks === 'source') return undefined;
  if (code === 'E_STORE_UNAVAILABLE' && row.asks === 'store') return undefined;
  return `${label}: rejected with ${code ?? ''} ${String(error)}`;
}

/** Calls every function, one after the other; what was wrong. */
export async function complaints(engine: Engine, world: World, conditions: Conditions): Promise<string[]> {
  const found: string[] = [];
  for (const row of functions) {
    const ended = await timed(() => row.call(engine, world));
    const wrong = complaint(row, world, ended, conditions);
    if (wrong !== undefined) found.push(wrong);
  }
  return found;
}
