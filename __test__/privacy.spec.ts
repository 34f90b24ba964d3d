/**
 * Nothing personal leaves Postgres and the application: not into log records, not into keys, and no `password_hash`
 * into any byte of the store. Not about access rights. Every check looks for what is known to be there elsewhere.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Engine, LogRecord } from '../index.js';
import { type FaultProxy, type Server, startProxy, startValkey } from './servers/index.mjs';
import { type Database, Databases, PASSWORD_HASH, type UserRow } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { functions, newWorld, type World } from './support/functions.js';
import { addRights } from './support/rbac-functions.js';
import { claimsOf, forged, signed, verified } from './support/tokens.js';

const STORE_PASSWORD = 'store-Passw0rd-of-this-test';
const DATABASE_PASSWORD = 'database-Passw0rd-of-this-test';

const engines = new Engines();
const records: LogRecord[] = [];
let databases: Databases;
let db: Database;
let server: Server;
let proxy: FaultProxy;
let engine: Engine;
let user: UserRow;
let role: string;
let token: string;
let world: World;

const jti = `jti-${randomUUID()}-${randomUUID()}`;
const address = `private.person.${randomUUID()}@example.test`;
const peer = '203.0.113.77';
const agent = 'private-agent/1.0';
const phrase = `private phrase ${randomUUID()}`;
const source = `source-${randomUUID()}`;
const organization = randomUUID();

/** What a query of the application returns, and what it may fail with. */
const found = async () => ({ data: [{ note: phrase, seen: peer, by: address }] });
const failing = async (): Promise<{ data: [] }> => {
  throw new Error(`${phrase} of ${address}`);
};
/** Told apart by what is personal: a phrase somebody searched for. */
const asked = () => ({ dataSourceId: source, measure: phrase, filters: { email: address, ip: peer } });
const limits = (identifier: string) => [
  { type: 'login', identifier, limit: 5, windowSeconds: 60 },
  { type: 'mfa', identifier, limit: 1, windowSeconds: 60 },
];
const request = () => ({ headers: new Headers({ 'x-forwarded-for': peer, 'user-agent': agent }) });

/** The functions about limits, results and the application's own values. */
const laterCalls = (): (() => Promise<unknown>)[] => {
  const service = engine.redisCacheService;
  return [
    () => engine.checkRateLimit('login', address, 2, 60),
    () => engine.checkRateLimit('login', address, 2, 60),
    () => engine.checkRateLimit('login', address, 2, 60),
    () => engine.checkRateLimit('login', `${address}\0`, 2, 60),
    () => engine.checkRateLimit(address, peer.repeat(200), 2, 60),
    () => engine.checkRateLimit('login', address, 0, 60),
    () => engine.checkIpRateLimit(peer, 1, 60),
    () => engine.checkIpRateLimit(peer, 1, 60),
    () => engine.checkIpRateLimit(address, 1, 60),
    () => engine.checkUserRateLimit(user.user_id, 1, 60),
    () => engine.checkRateLimits(limits(address)),
    () => engine.checkRateLimits(limits(address)),
    () => engine.peekRateLimit('login', address, 2, 60),
    () => engine.blockRateLimit('login', address, 2, 60, 5),
    () => engine.rewardRateLimit('login', address, 2, 60, 1),
    () => engine.resetRateLimit('login', address),
    () => engine.applyRateLimit(request(), 'auth'),
    () => engine.applyRateLimit(request(), 'auth', { identifier: address }),
    () => engine.applyRateLimit({ headers: { 'x-forwarded-for': `${address}, ${address}` } }, 'auth'),
    () => engine.authorizeRequest({ userId: user.user_id, limit: { type: 'api', identifier: peer } }),
    () => engine.queryDataSourceWithCache(asked(), [organization], found),
    () => engine.queryDataSourceWithCache(asked(), [organization], found, true),
    () => engine.queryDataSourceWithCache(asked(), [organization], failing, true),
    () => engine.queryDataSourceWithCache({ ...asked(), end_date: address }, [organization], found),
    () => engine.queryDataSourceWithCache(asked(), [organization], found, false, { scopeKey: address }),
    () => engine.queryAsResponse(request(), asked(), [organization], found),
    () => engine.invalidateDataSourceCache(address),
    () => engine.invalidateDataSourceCaches(source),
    () => engine.queryDataSourceWithCache(asked(), [organization], found),
    () => service.set('profile', { note: phrase, email: address }, 60),
    () => service.set('profile', () => address, 60),
    () => service.get('profile'),
    () => service.get(`${address}\0`),
    () => service.getOrSet('profile-2', found, 60),
    () => service.getOrSet('profile-3', failing, 60),
    () => service.del('profile-2'),
  ];
};

/** Every function, with errors of the arguments, the store and the source on the way. */
async function scenario(): Promise<void> {
  const calls: (() => Promise<unknown>)[] = [
    () => engine.getUserById(user.user_id),
    () => engine.getUserByEmail(address),
    () => engine.getUserByEmail(`nobody-${address}`),
    () => engine.getUserByEmail(`${address}\0`),
    () => engine.getUserById(address),
    () => engine.getCachedUserBasic(user.user_id),
    () => engine.cacheUserBasic(user.user_id, user),
    () => engine.cacheUserBasic(user.user_id, { ...user, first_name: 7 as unknown as string }),
    () => engine.invalidateUserCache(user.user_id),
    () => engine.getCachedUserBasic(user.user_id),
    () => engine.cacheUserBasic(user.user_id, user),
    () => engine.isTokenBlacklisted(jti),
    () => engine.getCachedTokenBlacklistStatus(jti),
    () => engine.cacheTokenBlacklistStatus(jti, false),
    () => engine.isTokenBlacklisted(`${jti}\0`),
    () => engine.verifyTokenCached(token, verified),
    () => engine.getCachedJWTPayload(token),
    () => engine.cacheJWTPayload(token, { email: address, password_hash: undefined }),
    () => engine.verifyTokenCached(forged(token), verified),
    () => engine.verifyTokenCached(token.repeat(100), verified),
    () => engine.invalidateJWTPayload(jti),
    () => engine.invalidateAllUserTokens(user.user_id),
    () =>
      engine.blacklistToken({
        jti,
        userId: user.user_id,
        tokenType: 'access',
        expiresAt: Date.now() + 60_000,
        reason: 'logout',
        ipAddress: peer,
        userAgent: agent,
      }),
    () =>
      engine.blacklistToken({
        jti,
        userId: address,
        tokenType: 'a',
        expiresAt: 0,
        reason: peer,
        ipAddress: agent.repeat(9),
      }),
    () => engine.isTokenBlacklisted(jti),
    () => engine.getCachedUserContext(user.user_id),
    () => engine.getCachedUserContext(user.user_id, { consistency: 'fresh' }),
    () => engine.getCachedUserContext(user.user_id, { consistency: 'bounded' }),
    () => engine.getCachedUserContext(address),
    () => engine.getCachedRolePermissions(role),
    () => engine.authorizeRequest({ token, verify: verified, permission: 'analytics:read:own' }),
    () => engine.authorizeRequest({ token: forged(token), verify: verified, userId: user.user_id }),
    () => engine.authorizeRequest({ userId: user.user_id, tokenId: jti, permission: address }),
    () => engine.invalidateUserContext(user.user_id, 'role_removed'),
    () => engine.invalidateUserContext(user.user_id, address),
    () => engine.invalidateRolePermissions(role, 'narrowed'),
    () => engine.invalidateUsersWithRole(role),
    () => engine.invalidateOrganizationMembers(role),
    () => engine.invalidateOrganizationHierarchy(),
    () => engine.invalidateAllRolePermissions(),
    () => engine.getCachedUserContext(user.user_id),
    () => engine.warmCache({ level: 'aggressive', force: true }),
    async () => engine.recordCacheFallback(address, `user ${user.user_id} from ${peer}`),
    async () => engine.recordCacheFallback(jti, token),
    () => engine.getHealth(),
    ...laterCalls(),
    // And whatever is added to the table of all functions, on a world of this very user.
    ...functions.map((row) => () => row.call(engine, world)),
  ];
  for (const call of calls) await outcome(call());
}

beforeAll(async () => {
  databases = await Databases.start();
  db = await databases.create();
  server = await startValkey({ acl: { username: 'app', password: STORE_PASSWORD } });
  proxy = await startProxy({ port: server.port });
  user = await db.addUser({ email: address, first_name: 'Privatefirst', last_name: 'Privatelast' });
  ({ role } = await addRights(db, user.user_id));
  const claims = { ...claimsOf(user.user_id, { jti, email: address, ip: peer }), jti };
  token = signed(claims);
  world = { ...(await newWorld(db)), user, role, token, claims };
  const url = new URL(db.url);
  url.password = DATABASE_PASSWORD;
  engine = engines.start({
    redisHost: server.host,
    redisPort: proxy.port,
    redisUsername: 'app',
    redisPassword: STORE_PASSWORD,
    redisLog: 'trace',
    cacheDeadlineMs: 500,
    databaseUrl: url.href,
    rateLimitTrustedProxies: '1',
  });
  engine.setLogger((record) => records.push(record));

  await scenario();
  // The tables are not what they should be: refused statements.
  await db.query('ALTER TABLE users RENAME TO users_gone');
  await db.query('ALTER TABLE token_blacklist RENAME TO token_blacklist_gone');
  await db.query('ALTER TABLE user_roles RENAME TO user_roles_gone');
  await scenario();
  await db.query('ALTER TABLE users_gone RENAME TO users');
  await db.query('ALTER TABLE token_blacklist_gone RENAME TO token_blacklist');
  await db.query('ALTER TABLE user_roles_gone RENAME TO user_roles');
  // The store talks nonsense, is gone, comes back.
  await proxy.set({ garbageReplies: true });
  await scenario();
  await proxy.reset();
  await proxy.set({ refuseConnections: true });
  await scenario();
  await databases.server.pause();
  await outcome(engine.getUserById(randomUUID(), { deadlineMs: 300 }));
  await databases.server.resume();
  await proxy.reset();
  await until('the store is in service again', () => engine.isRedisAvailable());
  await until(
    'the source answers again',
    async () => 'value' in (await outcome(engine.getUserById(user.user_id))),
  );
  await scenario();
  await sleep(50);
});
afterAll(async () => {
  engine?.setLogger(null);
  await engines[Symbol.asyncDispose]();
  await proxy?.stop();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

describe('log records of the whole scenario at level trace', () => {
  const secrets = (): [string, string][] => [
    ['the address', address],
    ['its local part', address.split('@')[0] ?? ''],
    ['the first name', user.first_name],
    ['the last name', user.last_name],
    ['the password hash', PASSWORD_HASH],
    ['the user id', user.user_id],
    ['the token', token],
    ['the signature', token.split('.')[2] ?? ''],
    ['more than 8 characters of the token id', jti.slice(0, 9)],
    ['the end of the token id', jti.slice(-12)],
    ['the IP address', peer],
    ['the user agent', agent],
    ['what was searched for', phrase],
    ['the data source', source],
    ['the organization', organization],
    ['the password of the store', STORE_PASSWORD],
    ['the password of the source', DATABASE_PASSWORD],
  ];

  it('there are some, from every kind of trouble', () => {
    const components = new Set(records.map((record) => record.component));
    expect(components).toEqual(new Set(['store', 'source', 'rbac', 'cache-fallback', 'warming']));
    const levels = new Set(records.map((record) => record.level));
    for (const level of ['error', 'warn', 'info', 'debug']) expect(levels).toContain(level);
  });

  it('have the documented form', () => {
    for (const record of records) {
      expect(Object.keys(record).sort()).toEqual(['component', 'fields', 'level', 'message', 'time']);
      expect(['error', 'warn', 'info', 'debug', 'trace']).toContain(record.level);
      expect(record.message).not.toBe('');
      expect(new Date(record.time).toISOString()).toBe(record.time);
      for (const value of Object.values(record.fields))
        expect(['string', 'number', 'boolean']).toContain(typeof value);
    }
  });

  it('hold nothing personal and no secret', () => {
    const text = records
      .map((record) => JSON.stringify(record))
      .join('\n')
      .toLowerCase();
    for (const [what, secret] of secrets()) {
      expect(secret.length).toBeGreaterThan(3);
      expect([what, text.includes(secret.toLowerCase())]).toEqual([what, false]);
    }
    expect(text).not.toContain('@');
  });

  it('nor do health, metrics and error messages', async () => {
    const errors = await Promise.all(
      [
        engine.getUserById(address),
        engine.getUserByEmail(`${address}\0`),
        engine.isTokenBlacklisted(`${jti}\0`),
        engine.verifyTokenCached(token.repeat(100), verified),
        engine.cacheUserBasic(user.user_id, { ...user, is_active: true, first_name: 7 as unknown as string }),
        engine.cacheUserBasic(user.user_id, { ...user, provider_uid: address as unknown as number }),
        engine.cacheUserBasic(user.user_id, { ...user, user_id: address }),
        engine.blacklistToken({ jti, userId: address, tokenType: 'access', expiresAt: 0, reason: 'x' }),
        engine.getCachedUserContext(address),
        engine.invalidateUserContext(user.user_id, address),
        engine.invalidateUserContext(address),
        engine.authorizeRequest({ userId: user.user_id, tokenId: `${jti}\0` }),
        engine.checkRateLimit('login', address, 0, 60),
        engine.checkRateLimit(address.repeat(100), 'login', 2, 60),
        engine.checkIpRateLimit(address, 1, 60),
        engine.applyRateLimit({ headers: { 'x-forwarded-for': address } }, 'auth'),
        engine.queryDataSourceWithCache({ ...asked(), end_date: address }, [organization], found),
        engine.queryDataSourceWithCache(asked(), address as unknown as string[], found),
        engine.queryDataSourceWithCache(asked(), [organization], async () => [address] as never, true),
        engine.invalidateDataSourceCache(address),
        engine.redisCacheService.get(address.repeat(100)),
        engine.redisCacheService.set('profile', () => address, 60),
      ].map((call) => outcome<unknown>(call)),
    );
    const messages = errors.map((ended) => ('error' in ended ? String(ended.error) : 'no error'));
    expect(messages.filter((message) => message === 'no error')).toEqual([]);
    const text = [
      ...messages,
      JSON.stringify(await engine.getHealth()),
      JSON.stringify(engine.getMetrics()),
      engine.metricsText(),
    ]
      .join('\n')
      .toLowerCase();
    for (const [what, secret] of secrets())
      expect([what, text.includes(secret.toLowerCase())]).toEqual([what, false]);
  });
});

describe('the store', () => {
  /** Everything the server holds, also what it would write to disk. */
  async function everything(): Promise<[key: string, value: string][]> {
    const pairs: [string, string][] = [];
    for (const key of (await server.command('KEYS', '*')) as string[]) {
      pairs.push([key, String(await server.command('GET', key))]);
    }
    return pairs;
  }

  it('holds entries of every namespace', async () => {
    await engine.getUserByEmail(address);
    await engine.verifyTokenCached(signed(claimsOf(user.user_id)), verified);
    await engine.getCachedUserContext(user.user_id);
    const names = new Set((await everything()).map(([key]) => key.split(':')[0]));
    const authentication = ['user_basic', 'user_email', 'token_bl', 'jwt_payload', 'jwt_user'];
    const authorization = ['user_context', 'role_perms', 'org_tree', 'rbac_epoch'];
    const others = ['ratelimit', 'datasource', 'datasource_gen', 'cache', 'warming'];
    expect(names).toEqual(new Set([...authentication, ...authorization, ...others]));
    expect(
      (await everything()).some(([key, value]) => key.startsWith('user_context:') && value.includes(address)),
    ).toBe(true);
    expect((await everything()).some(([, value]) => value.includes(address))).toBe(true);
  });

  it('holds no password hash in any byte, while Postgres has it', async () => {
    const [row] = await db.query<{ password_hash: string }>(
      'SELECT password_hash FROM users WHERE user_id = $1',
      [user.user_id],
    );
    expect(row?.password_hash).toContain(PASSWORD_HASH);
    for (const pair of await everything()) {
      const bytes = pair.join(' ');
      expect(bytes).not.toContain(PASSWORD_HASH);
      expect(bytes).not.toContain(PASSWORD_HASH.slice(7));
      expect(bytes).not.toMatch(/password|\$2b\$/i);
    }
  });

  it('has no address in a key, and no key is a plain digest of a shorter form of it', async () => {
    const keys = (await everything()).map(([key]) => key);
    // A limit is counted under the text that the application has given; that one is documented.
    const own = keys.filter((key) => !key.startsWith('ratelimit:'));
    for (const key of own) expect(decodeURIComponent(key)).not.toMatch(/@|private[. ]p/i);
    expect(own.filter((key) => key.startsWith('datasource:'))).not.toHaveLength(0);
    expect(keys.filter((key) => key.startsWith('user_email:'))).not.toHaveLength(0);
    for (const key of keys.filter((one) => one.startsWith('user_email:')))
      expect(key).toMatch(/^user_email:[0-9a-f]{64}$/);
  });

  it('has no IP address and no user agent of a revocation', async () => {
    const rows = await db.query('SELECT ip_address, user_agent FROM token_blacklist WHERE jti = $1', [jti]);
    expect(rows).toEqual([{ ip_address: peer, user_agent: agent }]);
    for (const [key, value] of await everything()) {
      // The application's own claims, results, values and names of limits.
      if (/^(jwt_payload|datasource|cache|ratelimit):/.test(key)) continue;
      expect(key + value).not.toContain(peer);
      expect(key + value).not.toContain(agent);
    }
  });

  it('every key ends by itself', async () => {
    for (const [key] of await everything()) {
      expect([key, Number(await server.command('PTTL', key)) > 0]).toEqual([key, true]);
    }
  });
});
