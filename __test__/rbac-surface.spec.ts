/**
 * Which objects are handed out, what they permit, and what a scope is given for, with a native side that is played.
 * Not what a context is: the other RBAC specs ask a real one.
 */
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as api from '../index.js';
import { outcome } from './support/engines.js';
import { Engine, load, Native, OTHER, permissionOf, plain, root, USER } from './support/played-native.js';

let native: Native;
let engine: api.Engine;
beforeEach(() => {
  native = new Native();
  native.set(plain());
  engine = new Engine(native);
});
afterEach(() => {
  vi.restoreAllMocks();
});

/** A context that was handed out. */
async function handedOut(
  more: Partial<api.UserContext> = {},
  scopes: Record<string, string> = {},
): Promise<api.UserContext> {
  native.set(plain(more), scopes);
  return engine.getCachedUserContext(USER);
}

describe('a context', () => {
  it('is parsed once while its number stays, frozen all the way down', async () => {
    const parse = vi.spyOn(JSON, 'parse');
    const first = await engine.getCachedUserContext(USER);
    for (let round = 0; round < 3; round += 1) expect(await engine.getCachedUserContext(USER)).toBe(first);
    expect(parse).toHaveBeenCalledTimes(1);
    expect(Object.isFrozen(first) && Object.isFrozen(first.accessible_practices)).toBe(true);
    native.set(plain({ first_name: 'Grace' }));
    expect(await engine.getCachedUserContext(USER)).toMatchObject({ first_name: 'Grace' });
  });

  it.each([
    { consistency: 'bounded', mode: false },
    { consistency: undefined, mode: true },
    { consistency: 'validated', mode: true },
  ] as const)(
    'near: $consistency, configured bounded $mode, costs one look',
    async ({ consistency, mode }) => {
      native.bounded = mode;
      const first = await engine.getCachedUserContext(USER, { consistency });
      native.calls.length = 0;
      expect(await engine.getCachedUserContext(USER, { consistency })).toBe(first);
      expect(native.calls).toEqual([['peekContext', USER, consistency === 'bounded']]);
    },
  );

  it('is not taken from here for who wants it validated or fresh', async () => {
    await engine.getCachedUserContext(USER);
    native.calls.length = 0;
    await engine.getCachedUserContext(USER);
    await engine.getCachedUserContext(USER, { consistency: 'fresh' });
    expect(native.calls).toEqual([
      ['peekContext', USER, false],
      ['userContext', USER, false],
      ['userContextFresh', USER, false],
    ]);
  });

  it('is asked for in full when only its number comes', async () => {
    await engine.getCachedUserContext(USER);
    expect(native.calls.slice(1)).toEqual([
      ['userContext', USER, false],
      ['userContext', USER, true],
    ]);
  });

  it('that does not exist is an error with its reason', async () => {
    expect(await outcome(engine.getCachedUserContext(OTHER))).toMatchObject({
      error: { code: 'E_NOT_FOUND', field: 'userId', reason: 'unknown', retryable: false },
    });
  });

  it.each([
    [{ consistency: 'sometimes' }, 'consistency'],
    [{ consistency: null }, 'consistency'],
    [{ deadlineMs: 0 }, 'deadlineMs'],
  ])('refuses options %j', async (options, field) => {
    const call = engine.getCachedUserContext(USER, options as api.ContextOptions);
    expect(await outcome(call)).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field } });
  });

  it('a signal ends the waiting with its own reason', async () => {
    native.gate = new Promise(() => undefined);
    const controller = new AbortController();
    const call = outcome(engine.getCachedUserContext(USER, { signal: controller.signal }));
    controller.abort('enough');
    expect(await call).toEqual({ error: 'enough' });
  });
});

describe('a role', () => {
  it('is null, or one object while its number stays', async () => {
    expect(await engine.getCachedRolePermissions('r')).toBeNull();
    native.role = [900, '{"role_id":"r","permissions":[{"resource":"a"}]}'];
    const role = await engine.getCachedRolePermissions('r');
    expect(await engine.getCachedRolePermissions('r')).toBe(role);
    expect(Object.isFrozen(role?.permissions[0])).toBe(true);
  });
});

describe('hasPermission', () => {
  const rows: [granted: string, asked: string, allowed: boolean][] = [
    ['a:read:own', 'a:read:own', true],
    ['a:read:own', 'a:read:organization', false],
    ['a:read:organization', 'a:read:own', true],
    ['a:read:organization', 'a:read:all', false],
    ['a:read:all', 'a:read:own', true],
    ['a:read:all', 'a:read:all', true],
    ['a:read:all', 'a:write:own', false],
    ['a:read:all', 'b:read:own', false],
    ['a:read:galaxy', 'a:read:own', false],
    ['A:read:all', 'a:read:own', false],
  ];
  it.each(rows)('%s granted, %s asked: %s', async (granted, asked, allowed) => {
    const all_permissions = [permissionOf('z:z:own'), permissionOf(granted)];
    const context = await handedOut({ all_permissions });
    // Asked twice: the second time is one look into a set.
    for (let round = 0; round < 2; round += 1) expect(api.hasPermission(context, asked)).toBe(allowed);
    expect(engine.hasPermission(context, asked)).toBe(allowed);
    expect(api.hasPermission(plain({ all_permissions }), asked)).toBe(allowed);
    expect(api.hasPermission({ ...context }, asked)).toBe(allowed);
  });

  it.each([
    '',
    'a',
    'a:read',
    'a:read:',
    ':read:own',
    'a::own',
    'a:read:own:x',
    'a:read:galaxy',
    'a:read:OWN',
  ])('refuses %j, whoever asks', async (asked) => {
    for (const is_super_admin of [false, true]) {
      const context = await handedOut({ is_super_admin });
      for (const judged of [context, plain({ is_super_admin })]) {
        expect(() => api.hasPermission(judged, asked)).toThrow(api.InvalidArgumentError);
      }
    }
    expect(() => api.hasPermission(plain(), 7 as never)).toThrow(
      expect.objectContaining({ field: 'permission' }),
    );
  });

  it('a super administrator may do everything', async () => {
    expect(api.hasPermission(await handedOut({ is_super_admin: true }), 'x:y:all')).toBe(true);
    expect(api.hasPermission(plain({ is_super_admin: true }), 'x:y:all')).toBe(true);
    // Not what merely looks true.
    expect(api.hasPermission(plain({ is_super_admin: 'yes' as never }), 'x:y:all')).toBe(false);
  });

  it('a part that holds the separator passes for nothing else', async () => {
    const odd = [
      { ...permissionOf('a:b:all'), resource: 'a:b', action: 'c' },
      { ...permissionOf('a:b:all'), resource: 'a', action: 'b:own', scope: 'all' },
      { ...permissionOf('a:b:all'), resource: '', action: 'a:read' },
    ];
    const context = await handedOut({ all_permissions: odd });
    for (const asked of ['a:b:own', 'a:read:own', 'b:c:own']) {
      expect(api.hasPermission(context, asked)).toBe(false);
      expect(api.hasPermission(plain({ all_permissions: odd }), asked)).toBe(false);
    }
    expect(() => api.hasPermission(context, 'a:b:own:own')).toThrow(api.InvalidArgumentError);
  });

  it('judges an object of the application anew each time', () => {
    const all_permissions = [permissionOf('a:read:own')];
    const mine = plain({ all_permissions });
    expect(api.hasPermission(mine, 'a:read:own')).toBe(true);
    all_permissions.pop();
    expect(api.hasPermission(mine, 'a:read:own')).toBe(false);
  });

  it.each([null, undefined, 'context', {}, { all_permissions: {} }])('refuses %j as a context', (context) => {
    expect(() => api.hasPermission(context as never, 'a:read:own')).toThrow(
      expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field: 'context' }),
    );
  });
});

describe('a scope', () => {
  const nothing = { kind: 'nothing', practices: [], providers: [] };
  const all = { kind: 'all', practices: [], providers: null };
  const any = { kind: 'rows', practices: [1, 2], providers: null };
  const own = { kind: 'rows', practices: [1, 2], providers: [7] };
  const rows: [
    what: string,
    more: Partial<api.UserContext>,
    scopes: Record<string, string>,
    expected: object,
  ][] = [
    ['not granted', {}, {}, nothing],
    ['another pair', {}, { 'reports:read': 'all' }, nothing],
    ['all', {}, { 'analytics:read': 'all' }, all],
    ['a super administrator', { accessible_practices: [], provider_uid: null }, { '*': 'all' }, all],
    ['practices', {}, { 'analytics:read': 'practices' }, any],
    ['practices, no provider', { provider_uid: null }, { 'analytics:read': 'practices' }, any],
    ['practices, none', { accessible_practices: [] }, { 'analytics:read': 'practices' }, nothing],
    [
      'practice 0',
      { accessible_practices: [0] },
      { 'analytics:read': 'practices' },
      { ...any, practices: [0] },
    ],
    ['provider', {}, { 'analytics:read': 'provider' }, own],
    ['provider 0', { provider_uid: 0 }, { 'analytics:read': 'provider' }, { ...own, providers: [0] }],
    ['provider, none', { provider_uid: null }, { 'analytics:read': 'provider' }, nothing],
    ['provider, no practice', { accessible_practices: [] }, { 'analytics:read': 'provider' }, nothing],
    ['a word of tomorrow', {}, { 'analytics:read': 'planet' }, nothing],
    ['a permission list alone', { all_permissions: [permissionOf('analytics:read:all')] }, {}, nothing],
  ];
  it.each(rows)('%s', async (_, more, scopes, expected) => {
    const context = await handedOut(more, scopes);
    const scope = api.scopeOf(context);
    expect({ ...scope }).toEqual(expected);
    expect(scope).toBeInstanceOf(api.Scope);
    expect(Object.isFrozen(scope) && Object.isFrozen(scope.practices)).toBe(true);
    expect(scope.providers === null || Object.isFrozen(scope.providers)).toBe(true);
    expect(api.scopeOf(context, 'analytics:read')).toBe(scope);
    expect(engine.scopeOf(context, undefined)).toBe(scope);
  });

  it('does not come from what everything inherits', async () => {
    const everything = Object.prototype as unknown as Record<string, unknown>;
    const context = await handedOut();
    try {
      everything['*'] = 'all';
      everything['analytics:read'] = 'all';
      expect(api.scopeOf(context).kind).toBe('nothing');
    } finally {
      for (const name of ['*', 'analytics:read']) delete everything[name];
    }
  });

  it('is asked for by resource and action', async () => {
    const context = await handedOut({}, { 'reports:read': 'practices', 'analytics:read': 'all' });
    expect(api.scopeOf(context, 'reports:read').kind).toBe('rows');
    for (const permission of ['', 'reports', 'reports:', ':read', 'reports:read:own', '*', 7]) {
      expect(() => api.scopeOf(context, permission as string)).toThrow(
        expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field: 'permission' }),
      );
    }
  });

  it('is given for the very object only', async () => {
    const context = await handedOut({}, { '*': 'all' });
    const given: unknown[] = [
      { ...context },
      structuredClone(context),
      JSON.parse(JSON.stringify(context)),
      Object.create(context),
      new Proxy(context, {}),
      Object.freeze(plain()),
      null,
      undefined,
      USER,
      Promise.resolve(context),
    ];
    for (const copy of given) {
      expect(() => api.scopeOf(copy as never)).toThrow(
        expect.objectContaining({
          code: 'E_SCOPE',
          field: 'context',
          message: expect.stringContaining('copy'),
        }),
      );
    }
    expect(api.scopeOf(context).kind).toBe('all');
  });

  it('cannot be made, widened or copied', async () => {
    const scope = api.scopeOf(await handedOut({}, { 'analytics:read': 'provider' }));
    const Made = api.Scope as unknown as new (...given: unknown[]) => object;
    class Wider extends Made {}
    const made = [() => new Made(), () => new Made('all', [], null), () => new Wider()];
    for (const make of [...made, () => Reflect.construct(Made, [], Object)]) {
      expect(make).toThrow(expect.objectContaining({ code: 'E_SCOPE' }));
    }
    expect(() => Object.assign(scope, { kind: 'all' })).toThrow(TypeError);
    expect(() => (scope.practices as number[]).push(3)).toThrow(TypeError);
    const wider = { kind: 'all', practices: [], providers: null };
    const names = ['bcos-cache.scope', 'bcos-cache.scopes'].map((name) => Symbol.for(name));
    const forged: unknown[] = [
      { ...scope },
      structuredClone({ ...scope }),
      Object.create(scope),
      Object.create(Object.getPrototypeOf(scope)),
      new Proxy({}, {}),
      null,
      'all',
      // Whatever a parser of requests could be made to build: it has names and values, registered symbols included.
      wider,
      JSON.parse(`{ "__proto__": ${JSON.stringify(wider)}, "made": true }`),
      ...names.flatMap((name) => [
        { [name]: true, ...wider },
        Object.assign(Object.create(Object.getPrototypeOf(scope)), { [name]: true, ...wider }),
      ]),
      // What code could make of a real one.
      Object.defineProperties({}, Object.getOwnPropertyDescriptors(scope)),
      Object.create(Object.getPrototypeOf(scope), {
        ...Object.getOwnPropertyDescriptors(scope),
        kind: { value: 'all' },
      }),
      new Proxy(scope, { get: (_, name) => Reflect.get(wider, name) }),
    ];
    for (const value of forged) {
      expect(value instanceof api.Scope).toBe(false);
      // It is no key of a result either.
      const scopeKey = value as api.Scope;
      if (typeof value === 'object' && value !== null) {
        const query = () => expect.unreachable();
        const params = { dataSourceId: 1, endDate: '2020-01-01' };
        const asked = engine.queryDataSourceWithCache(params, [], query, false, { scopeKey });
        expect(await outcome(asked)).toMatchObject({
          error: { code: 'E_INVALID_ARGUMENT', field: 'scopeKey' },
        });
      }
    }
    expect(scope instanceof api.Scope).toBe(true);
    expect(scope instanceof Wider).toBe(false);
  });

  it('is not recognised where somebody else holds its place', () => {
    const place = Symbol.for('bcos-cache.scopes');
    const script = `
      globalThis[Symbol.for('bcos-cache.scopes')] = { has: () => true, add() {} };
      const { Scope, NOTHING } = require('./dist/scope.js');
      const forged = { kind: 'all', practices: [], providers: null };
      console.log(NOTHING instanceof Scope, forged instanceof Scope);`;
    const told = execFileSync(process.execPath, ['-e', script], { cwd: root, encoding: 'utf8' });
    expect(told.trim()).toBe('true false');
    // And once it is ours nobody replaces it by accident.
    expect(Object.getOwnPropertyDescriptor(globalThis, place)).toMatchObject({
      writable: false,
      configurable: false,
      enumerable: false,
    });
  });

  it('is recognised by another copy of the package, which gives none for a context of the first', async () => {
    const context = await handedOut({}, { '*': 'all' });
    for (const file of Object.keys(load.cache)) {
      if (dirname(file) === join(root, 'dist') || file === join(root, 'index.js')) delete load.cache[file];
    }
    const second = load('./index.js') as typeof api;
    expect(second.Scope).not.toBe(api.Scope);
    expect(api.scopeOf(context) instanceof second.Scope).toBe(true);
    expect(() => second.scopeOf(context)).toThrow(second.ScopeError);
    expect(second.hasPermission(context, 'a:read:own')).toBe(false);
  });
});

describe('invalidations', () => {
  const calls: [
    what: string,
    call: (reason?: string, options?: api.InvalidateOptions) => Promise<unknown>,
    id: string,
  ][] = [
    ['user', (...more) => engine.invalidateUserContext(USER, ...more), USER],
    ['user', (reason, options) => engine.invalidateUserCache(USER, { reason, ...options }), USER],
    ['role_users', (...more) => engine.invalidateUsersWithRole('r', ...more), 'r'],
    ['organization_members', (...more) => engine.invalidateOrganizationMembers('o', ...more), 'o'],
    ['hierarchy', (...more) => engine.invalidateOrganizationHierarchy(...more), ''],
    ['role', (...more) => engine.invalidateRolePermissions('r', ...more), 'r'],
    ['roles', (...more) => engine.invalidateAllRolePermissions(...more), ''],
  ];
  it.each(calls)('%s', async (what, call, id) => {
    expect(await call()).toEqual({ acknowledged: true, queued: false });
    await call('role_removed', { holdMs: 60_000, deadlineMs: 5 });
    await call('x'.repeat(64), { holdMs: undefined });
    expect(native.calls).toEqual([
      ['invalidateRbac', what, id, '', 0, 0],
      ['invalidateRbac', what, id, 'role_removed', 60_000, 5],
      ['invalidateRbac', what, id, 'x'.repeat(64), 0, 0],
    ]);
    const wrong: [reason: unknown, options: unknown, field: string][] = [
      ['two words', undefined, 'reason'],
      ['ä', undefined, 'reason'],
      ['a\n', undefined, 'reason'],
      ['x'.repeat(65), undefined, 'reason'],
      [null, undefined, 'reason'],
      [{ holdMs: 5 }, undefined, 'reason'],
      ['a', { holdMs: 0 }, 'holdMs'],
      ['a', { holdMs: 60_001 }, 'holdMs'],
      ['a', { holdMs: 1.5 }, 'holdMs'],
      ['a', { holdMs: '5' }, 'holdMs'],
      ['a', { deadlineMs: -1 }, 'deadlineMs'],
    ];
    for (const [reason, options, field] of wrong) {
      const ended = await outcome(call(reason as string, options as api.InvalidateOptions));
      expect(ended).toMatchObject({ error: { code: 'E_INVALID_ARGUMENT', field } });
    }
    expect(native.calls).toHaveLength(3);
  });
});

describe('errors', () => {
  it('carry a reason where there is one', () => {
    const { fromNative } = load('./dist/errors.js') as typeof import('../lib/errors.js');
    const error = fromNative('E_NOT_FOUND', 'm', 'userId', 'deleted');
    expect(error).toBeInstanceOf(api.NotFoundError);
    expect(error).toMatchObject({ code: 'E_NOT_FOUND', field: 'userId', reason: 'deleted' });
    for (const absent of [fromNative('E_NOT_FOUND', 'm', null, null), fromNative('E_CLOSED', 'm')]) {
      expect(Object.keys(absent).sort()).toEqual(['code', 'retryable']);
    }
    expect(new api.NotFoundError('m', { reason: 'inactive' }).reason).toBe('inactive');
  });
});
