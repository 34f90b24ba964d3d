/**
 * What one request sees of authorization inside `withRequestSnapshot`, with a native side that is played. Not whether
 * a context is current.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import * as api from '../index.js';
import { outcome } from './support/engines.js';
import { Engine, Native, OTHER, plain, tokenOf, USER, verify } from './support/played-native.js';

let native: Native;
let engine: api.Engine;
beforeEach(() => {
  native = new Native();
  native.set(plain());
  engine = new Engine(native);
});
afterEach(() => {
  vi.useRealTimers();
});

describe('a request snapshot', () => {
  const read = (options?: api.ContextOptions) => engine.getCachedUserContext(USER, options);
  const change = (first_name: string) => native.set(plain({ first_name }));

  it('gives one object for the whole request, whatever happens outside', async () => {
    await api.withRequestSnapshot(async () => {
      const first = await read();
      change('Grace');
      expect(await read()).toBe(first);
      expect(await read({ consistency: 'bounded' })).toBe(first);
      expect(await engine.getCachedUserContext(USER.toUpperCase())).toBe(first);
      await sleep(1);
      expect(await read()).toBe(first);
      expect(native.count('userContext')).toBe(2);
    });
    expect(await read()).toMatchObject({ first_name: 'Grace' });
  });

  it('the first answer counts when several are under way', async () => {
    await engine.withRequestSnapshot(async () => {
      const early = read();
      change('Grace');
      const late = read();
      const [a, b] = await Promise.all([early, late]);
      expect(a).toBe(b);
    });
  });

  it('fresh reads the source and leaves it as it is', async () => {
    await api.withRequestSnapshot(async () => {
      const first = await read();
      change('Grace');
      expect(await read({ consistency: 'fresh' })).toMatchObject({ first_name: 'Grace' });
      expect(await read()).toBe(first);
    });
  });

  it('does not keep failures', async () => {
    await api.withRequestSnapshot(async () => {
      native.failure = new api.SourceUnavailableError('down');
      expect(await outcome(read())).toMatchObject({ error: { code: 'E_SOURCE_UNAVAILABLE' } });
      native.failure = undefined;
      expect(await read()).toMatchObject({ first_name: 'Ada' });
    });
  });

  it.each([
    ['invalidateUserCache', () => engine.invalidateUserCache(USER)],
    ['invalidateUserContext', () => engine.invalidateUserContext(USER)],
    ['invalidateRolePermissions', () => engine.invalidateRolePermissions('r')],
    ['invalidateOrganizationHierarchy', () => engine.invalidateOrganizationHierarchy()],
  ])('%s inside drops it', async (_, invalidate) => {
    await api.withRequestSnapshot(async () => {
      await read();
      change('Grace');
      await invalidate();
      const second = await read();
      expect(second).toMatchObject({ first_name: 'Grace' });
      change('Lin');
      expect(await read()).toBe(second);
    });
  });

  it('does not keep what was read while an invalidation was under way', async () => {
    await read();
    await api.withRequestSnapshot(async () => {
      // Begun before the invalidation, ended after it.
      native.gate = sleep(20);
      const early = read();
      change('Grace');
      native.gate = undefined;
      await engine.invalidateUserContext(USER);
      expect(await early).toMatchObject({ first_name: 'Ada' });
      expect(await read()).toMatchObject({ first_name: 'Grace' });
      // Begun and ended while it runs.
      native.gate = sleep(20);
      const invalidation = engine.invalidateUserContext(USER);
      native.gate = undefined;
      expect(await read()).toMatchObject({ first_name: 'Grace' });
      change('Lin');
      await invalidation;
      expect(await read()).toMatchObject({ first_name: 'Lin' });
    });
  });

  it('drops it also when the caller no longer waits for the invalidation', async () => {
    await api.withRequestSnapshot(async () => {
      native.gate = sleep(10);
      const signal = AbortSignal.abort('gone');
      await outcome(engine.invalidateUserContext(USER, 'x', { signal }));
      native.gate = undefined;
      await read();
      change('Grace');
      await sleep(20);
      expect(await read()).toMatchObject({ first_name: 'Grace' });
    });
  });

  it('is of one request, one engine and one user', async () => {
    const other = new Engine(native);
    native.whole = true;
    native.set(plain({ user_id: OTHER }));
    const request = (name: string) =>
      api.withRequestSnapshot(async () => {
        change(name);
        const mine = await read();
        await sleep(5);
        expect(await read()).toBe(mine);
        expect(await other.getCachedUserContext(USER)).not.toBe(mine);
        expect((await engine.getCachedUserContext(OTHER)).user_id).toBe(OTHER);
        return mine.first_name;
      });
    const names = ['A', 'B', 'C', 'D'];
    expect(await Promise.all(names.map(request))).toEqual(names);
  });

  it('joins the one it is in', async () => {
    await api.withRequestSnapshot(async () => {
      const first = await read();
      change('Grace');
      expect(await engine.withRequestSnapshot(() => read())).toBe(first);
      expect(await read()).toBe(first);
    });
  });

  it('ends with its function: work left running reads as usual', async () => {
    let left: Promise<api.UserContext> = Promise.reject(new Error('not begun'));
    left.catch(() => undefined);
    let nested: Promise<api.UserContext> | undefined;
    await api.withRequestSnapshot(async () => {
      await read();
      left = sleep(10).then(() => read());
      nested = sleep(15).then(() => api.withRequestSnapshot(() => read()));
    });
    change('Grace');
    expect(await left).toMatchObject({ first_name: 'Grace' });
    expect(await nested).toMatchObject({ first_name: 'Grace' });
  });

  it('ends after a minute, however long its function takes', async () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    await api.withRequestSnapshot(async () => {
      const first = await read();
      change('Grace');
      vi.advanceTimersByTime(59_000);
      expect(await read()).toBe(first);
      vi.advanceTimersByTime(1_001);
      expect(await read()).toMatchObject({ first_name: 'Grace' });
    });
  });

  it('passes on what its function returns and throws', async () => {
    expect(await api.withRequestSnapshot(() => 7)).toBe(7);
    const thrown = api.withRequestSnapshot(() => {
      throw new RangeError('x');
    });
    await expect(thrown).rejects.toThrow(RangeError);
    await expect(api.withRequestSnapshot(Promise.resolve(1) as never)).rejects.toMatchObject({ field: 'fn' });
  });

  it('is what authorizeRequest reads and what it begins', async () => {
    await api.withRequestSnapshot(async () => {
      const result = await engine.authorizeRequest({ token: tokenOf('j', USER), verify });
      change('Grace');
      expect(result.ok && (await read())).toBe(result.ok && result.context);
      const again = await engine.authorizeRequest({ token: tokenOf('j', USER), verify });
      expect(again.ok && result.ok && again.context === result.context).toBe(true);
      const fresh = await engine.authorizeRequest({
        token: tokenOf('j', USER),
        verify,
        consistency: 'fresh',
      });
      expect(fresh).toMatchObject({ ok: true, context: { first_name: 'Grace' } });
      // Who is no user any more is refused nevertheless.
      native.denied = 'inactive';
      const denied = await engine.authorizeRequest({ token: tokenOf('j', USER), verify });
      expect(denied).toMatchObject({ ok: false, reason: 'user_inactive' });
    });
  });
});
