/**
 * Whose result it is: parameters and scope have the same hash exactly if they mean the same, judged for thousands of
 * random pairs by a slow comparison that shares no code with it. Not what is stored under that hash. `BCOS_SEED`
 * chooses another series.
 */
import { createHash } from 'node:crypto';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { canonical } from '../lib/datasource/canonical.js';
import { dataSourceKey } from '../lib/datasource/key.js';
import { InvalidArgumentError } from '../lib/errors.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_263);
const PAIRS = rounds(100_000, 10_000);
const MOST_CHARACTERS = 262_144;
const MOMENT = '2026-03-29T01:30:00.000Z';

const invalid = (field: string) => expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field });
const hashOf = (params: unknown, ...[organizations, scopeKey]: readonly unknown[]) =>
  dataSourceKey(params, organizations, scopeKey).hash;
/** Of somebody who belongs nowhere. */
const nobodysHashOf = (params: unknown) => hashOf(params, []);
/** What a request gives: `__proto__` is a property like any other. */
const parsed = (text: string): Record<string, unknown> => JSON.parse(text);
const nested = (levels: number): unknown => {
  let value: unknown = 1;
  for (let level = 0; level < levels; level += 1) value = { a: value };
  return value;
};
const cyclic = () => {
  const filter: Record<string, unknown> = { column: 'a' };
  filter['and'] = [{}, filter];
  return filter;
};
const refusalOf = (call: () => unknown): InvalidArgumentError => {
  try {
    call();
  } catch (error) {
    if (error instanceof InvalidArgumentError) return error;
    throw error;
  }
  throw new Error('it was accepted');
};

describe('the canonical text', () => {
  it.each<[what: string, value: unknown, text: string]>([
    ['null', null, 'null'],
    ['truth', [true, false], '[true,false]'],
    ['no property', {}, '{}'],
    ['no element', [], '[]'],
    [
      'numbers as the language prints them',
      [333333333.3333333, 1e30, 4.5, 2e-3, 1e-27, 1e21, 1e20, 1e-6, 1e-7, 5e-324],
      '[333333333.3333333,1e+30,4.5,0.002,1e-27,1e+21,100000000000000000000,0.000001,1e-7,5e-324]',
    ],
    ['minus zero', [-0, 0, -1], '[0,0,-1]'],
    [
      'signs that JSON escapes, and no others',
      '\u20ac$\u000f\nA\'B"\\/\u2028\u007f\u{1f600}',
      '"\u20ac$\\u000f\\nA\'B\\"\\\\/\u2028\u007f\u{1f600}"',
    ],
    [
      'names by UTF-16 units',
      { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\u{1f600}': 5, '\u0080': 6, '\u00f6': 7 },
      '{"\\r":2,"1":4,"\u0080":6,"\u00f6":7,"\u20ac":1,"\u{1f600}":5,"\ufb33":3}',
    ],
    ['names that look like numbers', { '10': 1, '9': 2, b: 3, B: 4 }, '{"10":1,"9":2,"B":4,"b":3}'],
    ['undefined', { a: undefined, b: { c: undefined }, d: 1 }, '{"b":{},"d":1}'],
    ['the order of a list', [3, 1, [2, 1]], '[3,1,[2,1]]'],
    ['a Date', { at: new Date(MOMENT) }, `{"at":"${MOMENT}"}`],
    ['a Date of another realm', runInNewContext('new Date(0)'), '"1970-01-01T00:00:00.000Z"'],
    ['objects of another realm', runInNewContext('({ b: [{}], a: 1 })'), '{"a":1,"b":[{}]}'],
    ['no prototype', Object.assign(Object.create(null), { a: 1 }), '{"a":1}'],
    [
      'what everything inherits',
      parsed('{"constructor":2,"__proto__":{"b":1,"a":[]},"toString":3}'),
      '{"__proto__":{"a":[],"b":1},"constructor":2,"toString":3}',
    ],
    ['toJSON that is no function', { toJSON: 1 }, '{"toJSON":1}'],
    ['what is not enumerable', Object.defineProperty({ a: 1 }, 'b', { value: 1n }), '{"a":1}'],
    ['levels', nested(64), `${'{"a":'.repeat(64)}1${'}'.repeat(64)}`],
  ])('%s', (_, value, text) => {
    expect(canonical('params', value)).toBe(text);
  });

  it('stays what it is when it is read back', () => {
    const random = new Random(SEED, 1);
    for (let round = 0; round < rounds(5_000, 1_000); round += 1) {
      const text = canonical('value', anyValue(random, 3));
      expect(canonical('value', JSON.parse(text)), `seed ${SEED}, round ${round}`).toBe(text);
    }
  });

  it('repeats an object that is there twice', () => {
    const filter = { column: 'a', value: [1] };
    const text = '[{"column":"a","value":[1]},{"column":"a","value":[1]},[1]]';
    expect(canonical('params', [filter, filter, filter.value])).toBe(text);
  });

  it('may be as long as its bound and not longer', () => {
    const long = 'x'.repeat(MOST_CHARACTERS - '{"a":""}'.length);
    expect(canonical('params', { a: long })).toHaveLength(MOST_CHARACTERS);
    const list = new Array<number>(MOST_CHARACTERS / 2 - 1).fill(1);
    expect(canonical('params', list)).toHaveLength(MOST_CHARACTERS - 1);
    const short = Array.from({ length: 43_000 }, (_, at) => [String.fromCharCode(0x100 + at), 1]);
    expect(canonical('params', Object.fromEntries(short))).toHaveLength(6 * short.length + 1);
    for (const tooLong of [{ a: `${long}x` }, [...list, 1], '"'.repeat(MOST_CHARACTERS / 2)]) {
      const refusal = refusalOf(() => canonical('params', { here: tooLong }));
      expect(refusal).toEqual(invalid('params'));
      expect(refusal.message).toMatch(/262144 characters.*; pass/);
    }
  });

  it('is given up before the work is more than the bound', () => {
    let reads = 0;
    const counted = (properties: number, value: unknown) => {
      const names = Array.from({ length: properties }, (_, at) => [`a${at}`, value]);
      return new Proxy(Object.fromEntries(names) as object, {
        get: () => {
          reads += 1;
          if (reads > MOST_CHARACTERS) throw new Error('still reading');
          return value;
        },
      });
    };
    const empty = counted(10_000, undefined);
    expect(() => canonical('params', new Array(100_000).fill(empty))).toThrow(invalid('params'));
    expect(reads).toBeGreaterThan(10_000);
    reads = 0;
    expect(() => canonical('params', counted(70_000, undefined))).toThrow(invalid('params'));
    expect(reads).toBe(0);
    let doubled: unknown = 1;
    for (let level = 0; level < 60; level += 1) doubled = [doubled, doubled];
    expect(() => canonical('params', doubled)).toThrow(invalid('params'));
    expect(() => canonical('params', new Array(2 ** 32 - 1))).toThrow(invalid('params'));
  });
});

describe('what is refused', () => {
  class Filter {
    column = 'a';
  }
  class Filters extends Array<unknown> {}
  class Moment extends Date {}
  const list = (...elements: unknown[]) => Object.assign(elements, { toJSON: () => 'x' });

  it.each<[what: string, filter: unknown, path: string, fix: RegExp]>([
    ['a bigint', { value: 1n }, '.value', /text/],
    ['a symbol', { value: Symbol('x') }, '.value', /null/],
    ['a function', { value: () => 1 }, '.value', /null/],
    ['NaN', { value: Number.NaN }, '.value', /NaN.*null/],
    ['infinity', { value: [1, Number.NEGATIVE_INFINITY] }, '.value[1]', /-Infinity.*null/],
    ['undefined in a list', { value: [1, undefined] }, '.value[1]', /null/],
    // biome-ignore lint/suspicious/noSparseArray: it is what is tested.
    ['a hole in a list', { value: [1, , 2] }, '.value[1]', /null/],
    ['an invalid Date', { value: new Date(Number.NaN) }, '.value', /valid/],
    ['a Map', { value: new Map([['a', 1]]) }, '.value', /plain object/],
    ['a Set', { value: new Set([1]) }, '.value', /plain object or list/],
    ['an instance of a class', { value: new Filter() }, '.value', /plain object/],
    ['a list of a class', { value: Filters.from([1]) }, '.value', /plain object or list/],
    ['a Date of a class', { value: new Moment(0) }, '.value', /plain object/],
    ['a Proxy of a Date', { value: new Proxy(new Date(0), {}) }, '.value', /plain object/],
    ['bytes', { value: Buffer.from('a') }, '.value', /bytes/],
    ['a typed array', { value: new Float64Array(1) }, '.value', /plain object/],
    ['memory', { value: new ArrayBuffer(1) }, '.value', /plain object/],
    ['a boxed number', { value: Object(1) }, '.value', /plain object/],
    ['a regular expression', { value: /x/ }, '.value', /plain object/],
    ['a promise', { value: Promise.resolve(1) }, '.value', /plain object/],
    ['a URL', { value: new URL('http://x.test') }, '.value', /plain object/],
    ['an error', { value: new Error('x') }, '.value', /plain object/],
    ['what inherits from an object', { value: Object.create({ a: 1 }) }, '.value', /plain object/],
    [
      'what inherits from a root of its own',
      { value: Object.create(Object.create(null)) },
      '.value',
      /plain/,
    ],
    ['toJSON', { value: { toJSON: () => 'x' } }, '.value', /plain object/],
    [
      'toJSON that is not enumerable',
      { value: Object.defineProperty({}, 'toJSON', { value: () => 'x' }) },
      '.value',
      /plain object/,
    ],
    ['toJSON of a list', { value: list(1) }, '.value', /plain object or list/],
    ['a name that is a symbol', { value: { [Symbol.iterator]: 1 } }, '.value', /symbol.*leave it out/],
    ['half of a pair', { value: 'a\ud83d' }, '.value', /^[^;]* it holds half.*well-formed/],
    ['the other half', { value: ['\ude00a'] }, '.value[0]', /well-formed/],
    ['pairs in the wrong order', { value: '\ude00\ud83d' }, '.value', /well-formed/],
    ['half of a pair in a name', { 'a b\ud83d': 1 }, '["a b\\ud83d"]', /its name holds half.*well-formed/],
    ['what lies behind an odd name', { 'a.b': { '': { 'x"': 1n } } }, '["a.b"][""]["x\\""]', /text/],
    ['what lies behind a long name', { [`${'x'.repeat(80)}`]: 1n }, `["${'x'.repeat(40)}…"]`, /text/],
    ['what lies behind __proto__', { value: [parsed('{"__proto__":[[]]}'), 1n] }, '.value[1]', /text/],
    ['what lies in __proto__', Object.fromEntries([['__proto__', [1n]]]), '.__proto__[0]', /text/],
    ['a cycle', cyclic(), '.and[1]', /cycle/],
  ])('%s', (_, filter, path, fix) => {
    const at = `params.advanced_filters[2]${path}`;
    const refusal = refusalOf(() => nobodysHashOf({ measure: 'a', advanced_filters: [{}, null, filter] }));
    expect(refusal).toEqual(invalid(at));
    expect(refusal.message.startsWith(`${at} is not accepted: `)).toBe(true);
    expect(refusal.message).toMatch(fix);
  });

  it('what is nested too deeply, by the path to it', () => {
    expect(() => canonical('params', nested(65))).toThrow(invalid(`params${'.a'.repeat(64)}`));
    expect(() => canonical('params', nested(100_000))).toThrow(/64 levels.*flatter/);
    expect(canonical('params', [nested(63), nested(63)])).toHaveLength(2 * (63 * 6 + 1) + 3);
  });

  it.each([undefined, () => 1, Symbol('x'), 1n, Number.NaN])('nothing but %s', (value) => {
    expect(() => canonical('params', value)).toThrow(invalid('params'));
  });

  it.each<[what: string, params: unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['text', '{}'],
    ['a list', [{}]],
    ['a Map', new Map()],
    ['a Date', new Date(0)],
    ['an instance of a class', new Filter()],
    ['parameters of a URL', new URLSearchParams('a=1')],
    ['toJSON', Object.defineProperty({ a: 1 }, 'toJSON', { value: () => ({}) })],
    ['a function', () => ({})],
  ])('parameters that are %s', (_, params) => {
    expect(() => nobodysHashOf(params)).toThrow(invalid('params'));
  });

  it.each<[what: string, organizations: unknown, field: string]>([
    ['nothing', undefined, 'userOrganizations'],
    ['text', 'a', 'userOrganizations'],
    ['an object', { 0: 'a', length: 1 }, 'userOrganizations'],
    ['a Set', new Set(['a']), 'userOrganizations'],
    ['a list with a number', ['a', 1], 'userOrganizations[1]'],
    ['a list with null', [null], 'userOrganizations[0]'],
    // biome-ignore lint/suspicious/noSparseArray: it is what is tested.
    ['a list with a hole', ['a', , 'b'], 'userOrganizations[1]'],
    ['a list with half of a pair', ['a', '\ud83d'], 'userOrganizations[1]'],
    ['too many', new Array(10_000).fill('0190163d-8694-739b-aea5-966c26f8ad91'), 'userOrganizations'],
  ])('organizations that are %s', (_, organizations, field) => {
    expect(() => hashOf({}, organizations)).toThrow(invalid(field));
  });

  it.each([null, '', 1, {}, '\ud83d', 'x'.repeat(MOST_CHARACTERS)])('a scope key that is %j', (scopeKey) => {
    expect(() => hashOf({}, [], scopeKey)).toThrow(invalid('scopeKey'));
  });
});

describe('what the caller has passed', () => {
  it('stays untouched, and may be frozen', () => {
    const organizations = ['b', 'a', 'b'];
    const params = { multiple_series: [{ b: [2, 1], a: undefined }], measure: 'x', at: new Date(MOMENT) };
    const [before, names] = [structuredClone([params, organizations]), Object.keys(params)];
    const hash = hashOf(params, organizations);
    expect([params, organizations]).toEqual(before);
    expect(Object.keys(params)).toEqual(names);
    expect(hashOf(frozen(params), frozen(organizations))).toBe(hash);
  });

  it('is read once, and only what is its own', () => {
    const reads = new Map<string, number>();
    const counting = (value: object, name: string): object =>
      new Proxy(value, {
        get: (target, property) => {
          const path = `${name}.${String(property)}`;
          reads.set(path, (reads.get(path) ?? 0) + 1);
          const found: unknown = Reflect.get(target, property);
          return typeof found === 'object' && found !== null ? counting(found, path) : found;
        },
      });
    const params = {
      data_source_id: 3,
      end_date: '2026-01-31',
      advanced_filters: [{ value: 1, toJSON: 1 }, 'x'],
    };
    const key = dataSourceKey(counting(params, 'params'), counting(['b', 'a'], 'organizations'));
    expect(key).toEqual(dataSourceKey(params, ['a', 'b']));
    expect(reads.get('params.advanced_filters.0.toJSON')).toBe(1);
    for (const [path, count] of reads)
      if (!path.startsWith('organizations')) expect([path, count]).toEqual([path, 1]);
    expect([reads.get('organizations.0'), reads.get('organizations.1')]).toEqual([1, 1]);
  });

  it('cannot show the hash one thing and the id another', () => {
    let reads = 0;
    const params = {
      get dataSourceId() {
        reads += 1;
        return reads;
      },
      get end_date() {
        reads += 10;
        return `2026-01-${reads}`;
      },
    };
    const key = dataSourceKey(params, []);
    expect(key).toEqual(dataSourceKey({ dataSourceId: 1, end_date: '2026-01-11' }, []));
    expect([key.dataSourceId, key.endDate]).toEqual(['1', '2026-01-11']);
  });
});

describe('the data source', () => {
  it.each<[id: unknown, text: string]>([
    [3, '3'],
    ['3', '3'],
    [0, '0'],
    [-0, '0'],
    ['charges: today/*', 'charges: today/*'],
    ['03', '03'],
    [undefined, 'default'],
    [null, 'default'],
  ])('%j is named %j, whatever the name of the parameter', (id, text) => {
    for (const name of ['dataSourceId', 'data_source_id', 'datasourceId', 'datasource_id']) {
      expect(dataSourceKey({ [name]: id, measure: 'x' }, []).dataSourceId).toBe(text);
    }
  });

  it.each<[what: string, id: unknown]>([
    ['empty text', ''],
    ['half a number', 1.5],
    ['what is no number', Number.NaN],
    ['what numbers cannot tell apart', 2 ** 53],
    ['a truth', true],
    ['an object', { id: 1 }],
    ['a list', [1]],
    ['a Date', new Date(0)],
  ])('%s is none', (_, id) => {
    expect(() => nobodysHashOf({ data_source_id: id })).toThrow(invalid('params.data_source_id'));
  });

  it('is the same under two names, or refused', () => {
    expect(dataSourceKey({ dataSourceId: 1, data_source_id: '1' }, []).dataSourceId).toBe('1');
    const refusal = refusalOf(() => nobodysHashOf({ dataSourceId: 1, data_source_id: 2 }));
    expect(refusal).toEqual(invalid('params.data_source_id'));
    expect(refusal.message).toContain('params.dataSourceId');
  });

  it('is not one that everything inherits', () => {
    const shared = Object.prototype as unknown as Record<string, unknown>;
    shared['dataSourceId'] = 9;
    shared['end_date'] = '2026-01-31';
    try {
      expect(dataSourceKey({}, [])).toMatchObject({ dataSourceId: 'default', endDate: undefined });
    } finally {
      delete shared['dataSourceId'];
      delete shared['end_date'];
    }
  });

  it('two of them never share', () => {
    const ids = [undefined, 1, 2, '1', 'default', '1:x', 'default:x'];
    const keys = ids.map((dataSourceId) => dataSourceKey({ dataSourceId, measure: 'x' }, []));
    expect(new Set(keys.map(({ hash }) => hash)).size).toBe(ids.length);
  });

  it.each<[params: object, endDate: unknown]>([
    [{ end_date: '2026-01-31' }, '2026-01-31'],
    [{ endDate: '2026-01-31' }, '2026-01-31'],
    [{ end_date: '2026-01-31', endDate: '2025-01-31' }, '2026-01-31'],
    [{ end_date: null, endDate: '2025-01-31' }, '2025-01-31'],
    [{ start_date: '2026-01-01' }, undefined],
  ])('%j ends %j', (params, endDate) => {
    expect(dataSourceKey(params, []).endDate).toBe(endDate);
  });
});

describe('the hash', () => {
  it.each<[organizations: unknown, scopeKey: string | undefined, text: string]>([
    [['b', 'a', 'b'], undefined, '{"organizations":["a","b"]}'],
    [['b', 'B'], 'own:7', '{"organizations":["B","b"],"scopeKey":"own:7"}'],
    [[], undefined, '{"organizations":[]}'],
    [null, undefined, '{"organizations":null}'],
    [null, 'own:7', '{"organizations":null,"scopeKey":"own:7"}'],
    [undefined, 'own:7', '{"organizations":null,"scopeKey":"own:7"}'],
  ])('of %j and %j is that of a text anybody can write', (organizations, scopeKey, scope) => {
    const text = `{"params":{"end_date":"${MOMENT}","measure":"Charges"},"scope":${scope}}`;
    const params = { measure: 'Charges', end_date: new Date(MOMENT), start_date: undefined };
    const expected = createHash('sha256').update(text).digest('base64url');
    expect(hashOf(params, organizations, scopeKey)).toBe(expected);
  });

  it('shows nothing of the parameters and depends on all of them', () => {
    const params = { measure: 'Charges by Provider', advanced_filters: ['x'.repeat(10_000)], last: 1 };
    expect(nobodysHashOf(params)).toMatch(/^[\w-]{43}$/);
    const others = [
      { ...params, last: 2 },
      { ...params, last: '1' },
      { ...params, z: null },
    ];
    expect(new Set([params, ...others].map((one) => nobodysHashOf(one))).size).toBe(4);
  });

  it('parameters cannot pass for a scope', () => {
    const forged = [
      hashOf({}, ['a']),
      nobodysHashOf({ organizations: ['a'] }),
      nobodysHashOf({ scope: { organizations: ['a'] } }),
      hashOf({ scopeKey: 'a' }, ['a']),
      hashOf({}, ['a","b']),
      hashOf({}, ['a', 'b']),
      hashOf({}, ['a'], 'b'),
      hashOf({}, ['a'], '"],"scopeKey":"b'),
      hashOf({}, ['null']),
      hashOf({}, null),
      hashOf({}, ['*']),
      hashOf({}, ['']),
      hashOf({}, []),
    ];
    expect(new Set(forged).size).toBe(forged.length);
  });

  it(`is equal exactly if parameters and scope mean the same: ${PAIRS} random pairs`, () => {
    const random = new Random(SEED, 2);
    const seen = new Map<string, Question>();
    let equal = 0;
    for (let pair = 0; pair < PAIRS; pair += 1) {
      const one = anyQuestion(random);
      const other = anyOther(random, one);
      const [hash, otherHash] = [one, other].map(hashed) as [string, string];
      const means = sameQuestion(one, other);
      const shown = () => `seed ${SEED}, pair ${pair}: ${JSON.stringify([one, other])}`;
      if ((hash === otherHash) !== means) throw new Error(`${shown()} ${means ? 'differ' : 'share'}`);
      if (means) equal += 1;
      for (const [key, question] of [
        [hash, one],
        [otherHash, other],
      ] as const) {
        const earlier = seen.get(key);
        if (earlier !== undefined && !sameQuestion(earlier, question)) {
          throw new Error(`${shown()} shares with ${JSON.stringify(earlier)}`);
        }
        seen.set(key, question);
      }
    }
    console.info(`data source keys, seed ${SEED}: ${PAIRS} pairs, ${equal} equal, ${seen.size} keys`);
    expect(equal).toBeGreaterThan(PAIRS * 0.3);
    expect(PAIRS - equal).toBeGreaterThan(PAIRS * 0.3);
  });

  it('an administrator and somebody restricted never share, whoever asks first', () => {
    const random = new Random(SEED, 3);
    for (let round = 0; round < rounds(20_000, 2_000); round += 1) {
      const params = frozen(anyParams(random));
      const administrator = { params, organizations: null, scopeKey: undefined };
      const scope = anyScope(random);
      const restricted = { ...scope, params: disguised(random, params) as Params };
      if (restricted.organizations === null && restricted.scopeKey === undefined)
        restricted.organizations = [];
      for (const [first, second] of [
        [administrator, restricted],
        [restricted, administrator],
      ] as const) {
        const store = new Map([[hashed(first), first]]);
        const served = store.get(hashed(second));
        if (served !== undefined)
          throw new Error(`seed ${SEED}, round ${round}: ${JSON.stringify(restricted)}`);
        expect(store.get(hashed({ ...first, params: disguised(random, params) as Params }))).toBe(first);
      }
    }
  });
});

type Params = Record<string, unknown>;

interface Scope {
  organizations: readonly string[] | null | undefined;
  scopeKey: string | undefined;
}

interface Question extends Scope {
  readonly params: Params;
}

function hashed({ params, organizations, scopeKey }: Question): string {
  return hashOf(params, organizations, scopeKey);
}

/** The slow definition: what may be told apart, and nothing else. */
function sameQuestion(one: Question, other: Question): boolean {
  return (
    same(one.params, other.params) &&
    sameSet(one.organizations, other.organizations) &&
    one.scopeKey === other.scopeKey
  );
}

function sameSet(one: Scope['organizations'], other: Scope['organizations']): boolean {
  if (!one || !other) return !one === !other;
  return one.every((id) => other.includes(id)) && other.every((id) => one.includes(id));
}

function same(left: unknown, right: unknown): boolean {
  const one = left instanceof Date ? left.toJSON() : left;
  const other = right instanceof Date ? right.toJSON() : right;
  if (typeof one !== 'object' || typeof other !== 'object' || one === null || other === null)
    return one === other;
  if (Array.isArray(one) !== Array.isArray(other)) return false;
  if (Array.isArray(one) && one.length !== (other as unknown[]).length) return false;
  const at = (value: object, name: string) => Object.getOwnPropertyDescriptor(value, name)?.value as unknown;
  return [...Object.keys(one), ...Object.keys(other)].every((name) => same(at(one, name), at(other, name)));
}

const NAMES = [
  ...[
    'a',
    'b',
    'A',
    'ab',
    '1',
    '2',
    '10',
    '',
    ' ',
    '__proto__',
    'constructor',
    'toString',
    'toJSON',
    'length',
  ],
  ...[
    'measure',
    'end_date',
    'practice_uid',
    '\u20ac',
    '\ufb33',
    '\u{1f600}',
    '\r',
    '\u00f6',
    'o\u0308',
    '"',
    '":',
  ],
];
const TEXTS = [
  ...NAMES,
  'null',
  '1',
  '0',
  'true',
  '[]',
  '{}',
  '-0',
  MOMENT,
  '2026-03-29',
  '2026-03-29T01:30:00Z',
];
const LEAVES = [null, true, false, 0, -0, 1, -1, 0.1, 0.30000000000000004, 1e21, 2 ** 53, ...TEXTS];
const IDS = ['a', 'A', 'b', 'c', 'ab', 'null', '*', '', 'a,b', '\u{1f600}', '\ufb33'];
const SCOPE_KEYS = ['a', 'A', 'null', 'all', '7:own', '["a"]'];

function anyQuestion(random: Random): Question {
  return { params: anyParams(random), ...anyScope(random) };
}

function anyParams(random: Random): Params {
  const params = anyObject(random, 3);
  if (random.chance(0.5)) setOwn(params, 'data_source_id', random.of([1, 2, '1', 'a', null, undefined]));
  if (random.chance(0.5)) setOwn(params, 'advanced_filters', anyList(random, 2));
  return params;
}

function anyScope(random: Random): Scope {
  const scopeKey = random.chance(0.6) ? undefined : random.of(SCOPE_KEYS);
  if (random.chance(0.2)) return { organizations: null, scopeKey };
  if (random.chance(0.1) && scopeKey !== undefined) return { organizations: undefined, scopeKey };
  return { organizations: Array.from({ length: random.upTo(4) }, () => random.of(IDS)), scopeKey };
}

function anyValue(random: Random, levels: number): unknown {
  if (levels === 0 || random.chance(0.6)) return random.chance(0.1) ? new Date(MOMENT) : random.of(LEAVES);
  return random.chance(0.5) ? anyList(random, levels) : anyObject(random, levels);
}

function anyList(random: Random, levels: number): unknown[] {
  return Array.from({ length: random.upTo(4) }, () => anyValue(random, levels - 1));
}

function anyObject(random: Random, levels: number): Params {
  const names = Array.from({ length: random.upTo(4) }, () => random.of(NAMES));
  return Object.fromEntries(names.map((name) => [name, anyValue(random, levels - 1)]));
}

/** Another question, the same in other clothes, or nearly the same. */
function anyOther(random: Random, question: Question): Question {
  if (random.chance(0.1)) return anyQuestion(random);
  const clothed = {
    params: frozen(disguised(random, question.params) as Params),
    ...reordered(random, question),
  };
  if (random.chance(0.5)) return clothed;
  if (random.chance(0.3)) return { ...clothed, ...anyScope(random) };
  if (random.chance(0.1))
    return {
      ...clothed,
      scopeKey: clothed.scopeKey === undefined ? 'a' : undefined,
      organizations: clothed.organizations ?? null,
    };
  return { ...clothed, params: frozen(altered(random, clothed.params) as Params) };
}

function reordered(random: Random, { organizations, scopeKey }: Scope): Scope {
  if (!organizations)
    return { organizations: scopeKey === undefined ? null : random.of([null, undefined]), scopeKey };
  const more = organizations.filter(() => random.chance(0.3));
  return { organizations: frozen(shuffled(random, [...organizations, ...more])), scopeKey };
}

/** The same data in other clothes. */
function disguised(random: Random, value: unknown): unknown {
  if (value === 0) return random.of([0, -0]);
  if (value instanceof Date || value === MOMENT) return random.chance(0.5) ? MOMENT : new Date(MOMENT);
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((element) => disguised(random, element));
  const entries = Object.entries(value).map(
    ([name, property]) => [name, disguised(random, property)] as const,
  );
  const free = NAMES.filter((name) => !Object.hasOwn(value, name) && random.chance(0.05));
  const all = shuffled(random, [...entries, ...free.map((name) => [name, undefined] as const)]);
  const result = random.chance(0.1) ? Object.create(null) : {};
  for (const [name, property] of all) setOwn(result, name, property);
  return result;
}

/** One change somewhere, which may turn out to be none. */
function altered(random: Random, value: unknown): unknown {
  if (Array.isArray(value)) {
    const list: unknown[] = [...value];
    const at = random.upTo(list.length);
    const kind = random.upTo(3);
    if (kind === 0 || at >= list.length) list.splice(at, 0, random.of(LEAVES));
    else if (kind === 1) list.splice(at, 1);
    else if (kind === 2) list.reverse();
    else list[at] = altered(random, list[at]);
    return list;
  }
  if (typeof value !== 'object' || value === null || value instanceof Date) {
    const others = [...LEAVES, [], {}, [value ?? null], { a: value }, String(value)];
    return random.of(others);
  }
  const entries = Object.entries(value).filter(([name]) => name !== 'data_source_id');
  const copy = Object.fromEntries(Object.entries(value));
  const [name = random.of(NAMES), property] = random.of([...entries, [undefined, undefined]] as [
    string,
    unknown,
  ][]);
  const kind = random.upTo(5);
  if (kind === 0) delete copy[name];
  else if (kind === 1) setOwn(copy, random.of(NAMES), property ?? null);
  else setOwn(copy, name, altered(random, property));
  return copy;
}

/** Also when it is called `__proto__`. */
function setOwn(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
}

function shuffled<T>(random: Random, list: readonly T[]): T[] {
  const rest = [...list];
  return list.map(() => rest.splice(random.upTo(rest.length - 1), 1)[0] as T);
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const name of Object.keys(value)) frozen(Object.getOwnPropertyDescriptor(value, name)?.value);
  }
  return value;
}
