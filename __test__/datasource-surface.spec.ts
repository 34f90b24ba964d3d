/**
 * What the TypeScript side of results decides by itself, on a native side that is played: when the cache is passed by and
 * the query answers, what becomes of a ticket, and which errors belong to whom.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';
import type { DataSourceOptions, ErrorCode } from '../index.js';
import { load } from './support/played-native.js';

interface Results {
  query(
    params: object,
    organizations: readonly string[],
    query: () => Promise<object>,
    force?: boolean,
    options?: DataSourceOptions,
  ): Promise<Record<string, unknown>>;
}
const { DataSources } = load('./dist/datasource/results.js') as {
  DataSources: new (...parts: unknown[]) => Results;
};
const { Objects } = load('./dist/objects.js') as { Objects: new () => object };
const { Loader } = load('./dist/loader.js') as { Loader: new () => object };
const { BcosCacheError } = load('./dist/errors.js') as {
  BcosCacheError: new (code: ErrorCode, text: string) => Error;
};

const [LEAD, LOADER_FAILED, AGED] = [-1, -2, -5];
const TEXT = JSON.stringify({ cached_at: 'a', expires_at: 'b', data: [1], query_time_ms: 7 });

/** Plays the native side: every call answers what is next in line for it. */
class Played {
  readonly called: string[] = [];
  begin: (() => unknown)[] = [];
  void: () => unknown = () => [true, false, null];
  refresh: () => unknown = () => null;

  beginResult = async (...[, , , , , full]: unknown[]) => {
    this.called.push(full === true ? 'begin in full' : 'begin');
    return (this.begin.shift() ?? (() => [LEAD, 5]))();
  };
  endings: (() => unknown)[] = [];

  endLead = async (lead: number, written: string | null) => {
    this.called.push(written === null ? `fail ${lead}` : `end ${lead}`);
    return (this.endings.shift() ?? (() => 9))();
  };
  dropLead = async (lead: number) => void this.called.push(`drop ${lead}`);
  invalidateResult = async () => {
    this.called.push('void');
    return this.void();
  };
  beginRefresh = async (...[, , , , , version]: unknown[]) => {
    this.called.push(`refresh ${version}`);
    return this.refresh();
  };
}

let native: Played;
let results: Results;
let ran: number;
let query: () => Promise<object>;
beforeEach(() => {
  native = new Played();
  results = new DataSources(native, new Objects(), new Loader());
  ran = 0;
  query = async () => {
    ran += 1;
    return { data: ['own'] };
  };
});
const ask = (options?: DataSourceOptions, force = false) => results.query({}, [], query, force, options);
const failing = (code: ErrorCode) => () => {
  throw new BcosCacheError(code, 'played');
};

describe('the cache is passed by', () => {
  it.each<ErrorCode>(['E_OVERLOADED', 'E_DEADLINE', 'E_STORE_UNAVAILABLE'])('on %s', async (code) => {
    native.begin = [failing(code)];
    expect(await ask()).toMatchObject({ data: ['own'], fromCache: false });
    native.void = failing(code);
    expect(await ask(undefined, true)).toMatchObject({ data: ['own'], fromCache: false });
    expect([ran, native.called]).toEqual([2, ['begin', 'void']]);
  });

  it.each<[what: string, begin: () => unknown]>([
    ['the native side cannot', failing('E_INTERNAL')],
    ['is no JSON', () => [3, '{"data":']],
  ])('when what is stored cannot be read, and it is removed: %s', async (_, begin) => {
    native.begin = [begin];
    expect(await ask()).toMatchObject({ data: ['own'], fromCache: false });
    expect([ran, native.called]).toEqual([1, ['begin', 'void']]);
  });

  it('and what the query throws then is its own', async () => {
    native.begin = [failing('E_OVERLOADED')];
    query = failing('E_OVERLOADED') as () => Promise<object>;
    await expect(ask()).rejects.toMatchObject({ code: 'E_OVERLOADED' });
    expect(native.called).toEqual(['begin']);
  });

  it('within the time of the caller', async () => {
    native.begin = [failing('E_OVERLOADED')];
    query = async () => sleep(200, { data: ['own'] });
    await expect(ask({ deadlineMs: 40 })).rejects.toMatchObject({ code: 'E_DEADLINE' });
    const caller = new AbortController();
    native.begin = [failing('E_OVERLOADED')];
    const asked = ask({ signal: caller.signal });
    setTimeout(() => caller.abort(new Error('gone')), 20);
    await expect(asked).rejects.toThrow('gone');
  });
});

describe('the cache is not passed by', () => {
  it.each<[code: ErrorCode, options: DataSourceOptions | undefined]>([
    ['E_DEADLINE', { deadlineMs: 1_000 }],
    ['E_CLOSED', undefined],
    ['E_INVALID_ARGUMENT', undefined],
  ])('on %s %j', async (code, options) => {
    native.begin = [failing(code)];
    await expect(ask(options)).rejects.toMatchObject({ code });
    native.void = failing(code);
    await expect(ask(options, true)).rejects.toMatchObject({ code });
    expect(ran).toBe(0);
  });

  it('because the query of somebody else rejected with an error of ours', async () => {
    const failure = new BcosCacheError('E_OVERLOADED', 'of its own');
    query = async () => Promise.reject(failure);
    await expect(ask()).rejects.toBe(failure);
    native.begin = [() => [LOADER_FAILED, 5]];
    query = async () => ({ data: ['not run'] });
    await expect(ask()).rejects.toBe(failure);
  });
});

describe('a ticket', () => {
  it('is ended with what the query brings, or as failed', async () => {
    await ask();
    query = async () => Promise.reject(new RangeError('no'));
    await expect(ask()).rejects.toThrow(RangeError);
    expect(native.called).toEqual(['begin', 'end 5', 'begin', 'fail 5']);
  });

  it.each<[how: string, options: (signal: AbortSignal) => DataSourceOptions, rejects: boolean]>([
    ['went away', (signal) => ({ signal }), false],
    ['went away, and it rejected', (signal) => ({ signal }), true],
    ['had no more time', () => ({ deadlineMs: 30 }), false],
  ])('is given back when its caller %s', async (_, options, rejects) => {
    const caller = new AbortController();
    query = async () => {
      await sleep(20);
      caller.abort(new Error('gone'));
      await sleep(50);
      if (rejects) throw new RangeError('cut short');
      return { data: [] };
    };
    await expect(ask(options(caller.signal))).rejects.toThrow(/gone|30 ms/);
    await sleep(100);
    expect(native.called).toEqual(['begin', 'drop 5']);
  });

  it.each<ErrorCode>(['E_CLOSED', 'E_DEADLINE', 'E_INTERNAL'])(
    'whose end the native side does not take (%s) costs nobody the answer',
    async (code) => {
      native.endings = [failing(code)];
      expect(await ask()).toMatchObject({ data: ['own'], fromCache: false });
      const failure = new RangeError('no');
      native.endings = [failing(code)];
      query = async () => Promise.reject(failure);
      await expect(ask()).rejects.toBe(failure);
      expect(native.called).toEqual(['begin', 'end 5', 'begin', 'fail 5']);
    },
  );

  it('for whose end there was no room for a moment is ended all the same: others wait for it', async () => {
    native.endings = [failing('E_OVERLOADED'), failing('E_OVERLOADED')];
    expect(await ask()).toMatchObject({ data: ['own'], fromCache: false });
    expect([ran, native.called]).toEqual([1, ['begin', 'end 5', 'end 5', 'end 5']]);
  });

  it.each<[what: string, result: object]>([
    ['nothing', { data: [], toJSON: () => undefined }],
    ['a number', { data: [], toJSON: () => 5 }],
    ['an error', { data: [10n] }],
  ])('is ended as failed when JSON makes %s of the result', async (_, result) => {
    query = async () => result;
    await expect(ask()).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT' });
    expect(native.called).toEqual(['begin', 'fail 5']);
  });

  it('that comes after its caller went away is given back', async () => {
    const caller = new AbortController();
    native.begin = [() => sleep(50, [LEAD, 6])];
    const asked = ask({ signal: caller.signal });
    caller.abort(new Error('gone'));
    await expect(asked).rejects.toThrow('gone');
    await sleep(100);
    expect([ran, native.called]).toEqual([0, ['begin', 'drop 6']]);
  });
});

describe('an answer of a certain age', () => {
  const patient = { staleMs: 1_000 };

  it('says so, and the query runs again when it is told to', async () => {
    native.begin = [() => [AGED, [3, TEXT], true, '00aa']];
    native.refresh = () => [LEAD, 7];
    expect(await ask(patient)).toMatchObject({ data: [1], stale: true, fromCache: true });
    await sleep(20);
    expect([ran, native.called]).toEqual([1, ['begin', 'refresh 00aa', 'end 7']]);
  });

  it('is told to refresh also when the object has to be asked for again', async () => {
    native.begin = [() => [AGED, 4, true, '00aa'], () => [4, TEXT]];
    expect(await ask(patient)).toMatchObject({ data: [1], stale: false });
    await sleep(20);
    expect(native.called).toEqual(['begin', 'begin in full', 'refresh 00aa']);
    expect(ran).toBe(0);
  });

  it('is not refreshed when somebody else has the right, or is told to', async () => {
    native.begin = [() => [AGED, [3, TEXT], true, '00aa'], () => [AGED, 3, true, null]];
    await ask(patient);
    expect(await ask(patient)).toMatchObject({ stale: true });
    await sleep(20);
    expect([ran, native.called]).toEqual([0, ['begin', 'refresh 00aa', 'begin']]);
  });

  it.each<[how: string, cut: boolean, ended: string]>([
    ['fails', false, 'fail 7'],
    ['is cut short', true, 'drop 7'],
  ])('whose query %s is told to the native side and to nobody else', async (_, cut, ended) => {
    const caller = new AbortController();
    native.begin = [() => [AGED, [3, TEXT], true, '00aa']];
    native.refresh = () => [LEAD, 7];
    query = async () => {
      if (cut) caller.abort();
      throw new RangeError('no');
    };
    expect(await ask({ ...patient, signal: caller.signal })).toMatchObject({ stale: true });
    await sleep(20);
    expect(native.called.at(-1)).toBe(ended);
  });
});
