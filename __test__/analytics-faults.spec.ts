/**
 * The analytics index when something is broken: keys that vanish or lie, a store or a source that is gone, tables that change
 * in ways nobody expects, two who warm at once. Whatever happens, an answer is that of one generation or of the source, whole;
 * or a typed error. Not about readers during publishes: `analytics-generations.spec.ts`.
 * Invariant: values of the table are its version, so that an answer says where it is from and a mixture shows.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2, type Engine, type EngineOptions } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { rowsOfColumns } from './support/analytics-answers.js';
import type { Aggregation, Cache, Filters } from './support/analytics-questions.js';
import { createTable, insertRows, type Row, type Table } from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines, outcome, until } from './support/engines.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_261_130);
const FAULTS = rounds(400, 40);

const TABLE: Table = {
  dataSource: 15,
  name: 'fragile',
  frequency: 'frequency',
  date: 'date_index',
  columns: [
    { name: 'id', kind: 'bigint', sql: 'bigint' },
    { name: 'practice_uid', kind: 'int', sql: 'integer' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'frequency', kind: 'text', sql: 'text', flag: 'is_time_period' },
    { name: 'date_index', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'measure_value', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
  ],
};
const MEASURES = ['Charges', 'Payments', 'Visits'];
const PRACTICES = 40;
const ROWS: Row[] = MEASURES.flatMap((measure, m) =>
  Array.from({ length: PRACTICES * 36 }, (_, n) => ({
    id: m * PRACTICES * 36 + n + 1,
    practice_uid: n % PRACTICES,
    provider_uid: n % 3 === 0 ? null : n % 5,
    measure,
    frequency: 'Monthly',
    date_index: `202${Math.floor(n / PRACTICES / 12)}-${String((Math.floor(n / PRACTICES) % 12) + 1).padStart(2, '0')}-01`,
    measure_value: '1',
  })),
);

let databases: Databases;
let db: Database;
let server: Server;
let engines: Engines;
let prefix: string;
let suite = 0;

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
});
afterAll(async () => {
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

beforeEach(async () => {
  suite += 1;
  prefix = `faults${suite}:`;
  engines = new Engines();
  db = await databases.create();
  await createTable(db, TABLE);
  await insertRows(db, TABLE, ROWS);
});
afterEach(async () => {
  await engines[Symbol.asyncDispose]();
  await server.command('FLUSHALL');
});

interface Instance {
  readonly engine: Engine;
  readonly cache: Cache;
}

/** An instance that holds nothing yet. */
function open(options: EngineOptions = {}): Instance {
  const engine = engines.start(
    { redisHost: server.host, redisPort: server.port, redisKeyPrefix: prefix, databaseUrl: db.url },
    { cacheDeadlineMs: 2_000, cacheSourceDeadlineMs: 30_000 },
    options,
  );
  return { engine, cache: new AnalyticsCacheV2(engine) };
}

const filters = (more: object = {}): Filters =>
  ({ datasourceId: TABLE.dataSource, ...more }) as unknown as Filters;
const warm = ({ cache }: Instance, force = true) => cache.warmCache(TABLE.dataSource, { force });
const setVersion = (version: number) => db.query(`UPDATE ih.${TABLE.name} SET measure_value = $1`, [version]);

interface Shown {
  readonly rows: number;
  /** Every different value: one version, unless it is a mixture. */
  readonly versions: readonly number[];
}

const shown = (rows: readonly object[]): Shown => ({
  rows: rows.length,
  versions: [...new Set((rows as readonly { measure_value: number }[]).map((row) => row.measure_value))],
});

/** Every form of one question, as what it shows. */
const FORMS: Readonly<Record<string, (cache: Cache, more?: object) => Promise<Shown>>> = {
  query: async (cache, more) => shown(await cache.query(filters(more))),
  columns: async (cache, more) => shown(rowsOfColumns(await cache.queryColumns(filters(more)))),
  json: async (cache, more) =>
    shown(JSON.parse((await cache.queryJson(filters(more))).toString('utf8')) as object[]),
  aggregate: async (cache, more) => {
    const metrics = [
      { function: 'count', as: 'rows' },
      { function: 'min', column: 'measure_value', as: 'least' },
      { function: 'max', column: 'measure_value', as: 'most' },
    ];
    const asked = { ...filters(more), groupBy: [], metrics } as unknown as Aggregation;
    const [all] = (await cache.aggregate(asked)) as unknown as {
      rows: number;
      least: number;
      most: number;
    }[];
    return {
      rows: all?.rows ?? Number.NaN,
      versions: [...new Set([all?.least ?? Number.NaN, all?.most ?? Number.NaN])],
    };
  },
  batch: async (cache, more) => {
    const answers = await cache.batchQuery(MEASURES.map((measure) => filters({ ...more, measure })));
    return shown((answers as unknown as object[][]).flat());
  },
};

/** All forms, all rows: `versions` are the ones of which each answer may be, one per answer. */
async function whole(cache: Cache, versions: readonly number[], rows = ROWS.length): Promise<void> {
  for (const [form, ask] of Object.entries(FORMS)) {
    const told = await ask(cache);
    expect([form, told.rows, told.versions.length, versions.includes(told.versions[0] ?? -1)]).toEqual([
      form,
      rows,
      1,
      true,
    ]);
  }
}

async function keys(pattern = `${prefix}*`): Promise<string[]> {
  const found = new Set<string>();
  let cursor = '0';
  do {
    const [next, some] = (await server.command('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1_000)) as [
      string,
      string[],
    ];
    for (const key of some) found.add(key);
    cursor = next;
  } while (cursor !== '0');
  return [...found].toSorted();
}

const OWN = new RegExp(`[:{]ds:${TABLE.dataSource}[:}]`);
/** Keys that belong to the data source. */
const own = async () => (await keys()).filter((key) => OWN.test(key));

/** Bytes stay bytes: values are copied and cut inside the server. */
const script = (text: string, names: string[], ...values: (string | number)[]) =>
  server.command('EVAL', text, names.length, ...names, ...values);
const KEEP = "local left = math.max(1, redis.call('PTTL', KEYS[1])) ";
const DAMAGES: Readonly<Record<string, (key: string, other: string, random: Random) => Promise<unknown>>> = {
  gone: (key) => server.command('DEL', key),
  empty: (key) => script(`${KEEP}return redis.call('SET', KEYS[1], '', 'PX', left)`, [key]),
  truncated: (key, _, random) =>
    script(
      `${KEEP}local value = redis.call('GET', KEYS[1])
       return redis.call('SET', KEYS[1], string.sub(value, 1, math.floor(#value * ARGV[1] / 100)), 'PX', left)`,
      [key],
      random.upTo(99),
    ),
  longer: (key) =>
    script(`${KEEP}return redis.call('SET', KEYS[1], redis.call('GET', KEYS[1]) .. 'more', 'PX', left)`, [
      key,
    ]),
  'one byte': (key, _, random) =>
    script(
      `${KEEP}local value = redis.call('GET', KEYS[1])
       if #value == 0 then value = 'x' end
       local at = 1 + math.floor((#value - 1) * ARGV[1] / 1000)
       local byte = (string.byte(value, at) + ARGV[2]) % 256
       return redis.call('SET', KEYS[1], string.sub(value, 1, at - 1) .. string.char(byte) .. string.sub(value, at + 1), 'PX', left)`,
      [key],
      random.upTo(1_000),
      1 + random.upTo(254),
    ),
  "another's bytes": (key, other) =>
    script(`${KEEP}return redis.call('SET', KEYS[1], redis.call('GET', KEYS[2]), 'PX', left)`, [key, other]),
  text: (key) => server.command('SET', key, '{"generation":999999999}', 'PX', 60_000),
  'a list': async (key) => {
    await server.command('DEL', key);
    await server.command('RPUSH', key, 'not', 'a', 'string');
  },
  'a set': async (key) => {
    await server.command('DEL', key);
    await server.command('SADD', key, 'member');
  },
};

describe('a key of the data source', () => {
  it('vanishes or lies: the whole answer is right, from frames or from the source', {
    timeout: 600_000,
  }, async () => {
    const warmer = open();
    await warm(warmer);
    const before = await own();
    expect(before.length).toBeGreaterThan(5);
    const complaints: string[] = [];
    const hurt = new Set<string>();
    const random = new Random(SEED, 3);
    const names = Object.keys(DAMAGES);
    for (let n = 0; n < FAULTS; n += 1) {
      const list = await own();
      const strings = [];
      for (const key of list) if ((await server.command('TYPE', key)) === 'string') strings.push(key);
      const key = n < list.length ? (list[n] as string) : random.of(list);
      const damage = strings.includes(key) ? random.of(names) : 'gone';
      await (DAMAGES[damage] as (typeof DAMAGES)[string])(key, random.of(strings), random);
      hurt.add(key);
      // Who holds nothing must notice; who holds frames must not mix them with what it fetches.
      for (const [who, cache] of [
        ['a new instance', open().cache],
        ['the warmer', warmer.cache],
      ] as const) {
        for (const form of [random.of(Object.keys(FORMS)), 'query']) {
          const told = await outcome((FORMS[form] as (typeof FORMS)[string])(cache));
          const right =
            'value' in told && told.value.rows === ROWS.length && told.value.versions.join() === '1';
          if (!right)
            complaints.push(
              `fault ${n}: ${damage} at ${key}, ${who}, ${form}: ${JSON.stringify(told, describeError)}`,
            );
        }
      }
      // Now and then it is mended, so that there is something to break.
      if (random.chance(0.4)) {
        const mended = await warm(warmer);
        if (mended.totalRows !== ROWS.length)
          complaints.push(`fault ${n}: warm says ${JSON.stringify(mended)}`);
      }
      await engines[Symbol.asyncDispose]();
      engines = new Engines();
      Object.assign(warmer, open());
    }
    expect(complaints.slice(0, 5), `${complaints.length} complaints, seed ${SEED}`).toEqual([]);
    expect(hurt.size).toBeGreaterThan(Math.min(FAULTS / 4, 10));
  });

  it('after damage a warm mends everything that is needed', async () => {
    const warmer = open();
    await warm(warmer);
    const frames = await keys(`${prefix}cache:ds:*`);
    expect(frames.length).toBeGreaterThan(2);
    const random = new Random(SEED, 4);
    for (const [at, key] of frames.entries()) {
      const names = Object.keys(DAMAGES);
      const damage = names[at % names.length] as string;
      // The next one is still as it was; after the last frame comes a manifest.
      const other = frames[at + 1] ?? (await keys(`${prefix}idx:ds:*`))[0];
      await (DAMAGES[damage] as (typeof DAMAGES)[string])(key, other as string, random);
    }
    await warm(open());
    const reader = open();
    await whole(reader.cache, [1]);
    const told = await reader.cache.fetch(filters(), { fallback: 'none' });
    expect([told.layer === 'source', told.rows.length]).toEqual([false, ROWS.length]);
  });

  it('a hole and a changed table: the generation or the source, never both', async () => {
    const warmer = open();
    await warm(warmer);
    await setVersion(2);
    const frames = await keys(`${prefix}cache:ds:*`);
    for (const key of frames) {
      await server.command('DEL', key);
      await whole(open().cache, [1, 2]);
      await whole(warmer.cache, [1, 2]);
    }
  });
});

const describeError = (_: string, value: unknown) =>
  value instanceof Error ? `${value.name} ${String(Reflect.get(value, 'code'))}: ${value.message}` : value;

describe('without store or source', () => {
  it('the store stops: the source answers, and afterwards the index again', async () => {
    const instance = open({ cacheDeadlineMs: 300 });
    await warm(instance);
    await setVersion(2);
    await server.kill();
    try {
      await whole(instance.cache, [1, 2]);
      const from = performance.now();
      const told = await instance.cache.fetch(filters({ practiceUids: [1] }), { fallback: 'source' });
      expect([told.layer, told.rows.length, performance.now() - from < 2_000]).toEqual([
        'source',
        ROWS.length / PRACTICES,
        true,
      ]);
      const refused = await outcome(instance.cache.fetch(filters(), { fallback: 'none' }));
      expect(refused).toMatchObject({ error: { code: expect.stringMatching(/^E_/) } });
    } finally {
      await server.restart();
    }
    // A restarted server is an empty one: cold, until somebody warms.
    await until('the store is back', () => instance.engine.isRedisAvailable());
    await whole(instance.cache, [2]);
    expect(await instance.cache.isCacheWarm(TABLE.dataSource)).toBe(false);
    await warm(instance);
    await whole(instance.cache, [2]);
    expect((await instance.cache.fetch(filters(), { fallback: 'none' })).layer).not.toBe('source');
  });

  it('the store hangs: one deadline, then nothing', async () => {
    const instance = open({ cacheDeadlineMs: 300, cacheQueryTimeout: 1_000 });
    await warm(instance);
    await server.pause();
    try {
      await whole(instance.cache, [1]);
      const from = performance.now();
      await FORMS['aggregate']?.(instance.cache, { practiceUids: [2] });
      expect(performance.now() - from).toBeLessThan(1_500);
    } finally {
      await server.resume();
    }
    await until('the index answers again', async () => {
      const told = await outcome(instance.cache.fetch(filters(), { fallback: 'none' }));
      return 'value' in told && told.value.layer !== 'source';
    });
  });

  it('Postgres stops: warm frames answer, what is cold is a typed error', async () => {
    const database = databases.server;
    const instance = open({ cacheSourceDeadlineMs: 2_000 });
    await warm(instance);
    const fresh = open({ cacheSourceDeadlineMs: 2_000 });
    await whole(fresh.cache, [1]);
    await database.kill();
    try {
      await whole(instance.cache, [1]);
      await whole(fresh.cache, [1]);
      // Someone new needs no source either: schema and all stand in the manifest.
      await whole(open({ cacheSourceDeadlineMs: 2_000 }).cache, [1]);
      await instance.cache.invalidate(TABLE.dataSource);
      for (const form of Object.keys(FORMS)) {
        const told = await outcome((FORMS[form] as (typeof FORMS)[string])(instance.cache));
        expect([form, told]).toEqual([
          form,
          {
            error: expect.objectContaining({
              code: expect.stringMatching(/^E_(SOURCE_UNAVAILABLE|DEADLINE)$/),
            }),
          },
        ]);
      }
      const failed = await outcome(warm(instance));
      expect(failed).toMatchObject({
        error: { code: expect.stringMatching(/^E_(SOURCE_UNAVAILABLE|DEADLINE)$/) },
      });
    } finally {
      await database.restart();
    }
    await until(
      'the source is back',
      async () => 'value' in (await outcome(instance.cache.query(filters()))),
    );
    await whole(instance.cache, [1]);
  });

  it('a warm that fails leaves the generation before it serving', async () => {
    const instance = open();
    await warm(instance);
    await setVersion(2);
    await db.query(`ALTER TABLE ih.${TABLE.name} RENAME TO away`);
    expect(await outcome(warm(instance))).toMatchObject({ error: { code: expect.stringMatching(/^E_/) } });
    await whole(instance.cache, [1]);
    await whole(open().cache, [1]);
    await db.query(`ALTER TABLE ih.away RENAME TO ${TABLE.name}`);
    await warm(instance);
    await whole(instance.cache, [2]);
  });

  it('a caller who leaves ends the warm, and nothing is published', async () => {
    const instance = open();
    await warm(instance);
    await setVersion(2);
    const leaving = new AbortController();
    leaving.abort();
    const told = await outcome(
      instance.cache.warmCache(TABLE.dataSource, { force: true, signal: leaving.signal }),
    );
    expect(told).toHaveProperty('error');
    await whole(instance.cache, [1]);
    await warm(instance);
    await whole(instance.cache, [2]);
  });
});

describe('a table that changes', () => {
  /** What a warm does with a suspicious table: hold it, in which case the old generation serves. */
  async function heldOr(instance: Instance, versions: readonly number[], rows: number): Promise<boolean> {
    const told = await warm(instance);
    const held = 'held' in told && told.held !== undefined && (told.held as unknown) !== false;
    if (held) await whole(instance.cache, [1]);
    else await whole(instance.cache, versions, rows);
    return held;
  }

  it('is emptied: held, and never a subset', async () => {
    const instance = open();
    await warm(instance);
    await db.query(`TRUNCATE ih.${TABLE.name}`);
    const told = await warm(instance);
    expect(told).toMatchObject({ held: expect.anything() });
    await whole(instance.cache, [1]);
    await whole(open().cache, [1]);
    // Nothing of the old generation is given away by asking the source, which is empty.
    const stats = await instance.cache.getCacheStats(TABLE.dataSource);
    expect(stats.isWarm).toBe(true);
  });

  it('a measure is gone: held', async () => {
    const instance = open();
    await warm(instance);
    await db.query(`DELETE FROM ih.${TABLE.name} WHERE measure = 'Visits'`);
    expect(await heldOr(instance, [1], (ROWS.length * 2) / 3)).toBe(true);
    expect((await instance.cache.query(filters({ measure: 'Visits' }))).length).toBe(ROWS.length / 3);
  });

  it('grows and changes: published', async () => {
    const instance = open();
    await warm(instance);
    await setVersion(2);
    await insertRows(
      db,
      TABLE,
      ROWS.slice(0, 200).map((row) => ({ ...row, id: Number(row['id']) + 1_000_000, measure_value: '2' })),
    );
    expect(await heldOr(instance, [2], ROWS.length + 200)).toBe(false);
  });

  it('a practice is gone: its rows are not in the next generation', async () => {
    const instance = open();
    await warm(instance);
    await db.query(`DELETE FROM ih.${TABLE.name} WHERE practice_uid = 7`);
    await setVersion(2);
    const left = ROWS.filter((row) => row['practice_uid'] !== 7).length;
    expect(await heldOr(instance, [2], left)).toBe(false);
    for (const cache of [instance.cache, open().cache]) {
      const told = await cache.fetch(filters({ practiceUids: [7] }), { fallback: 'none' });
      // That it has no rows is an answer, not a miss.
      expect([told.rows, told.layer === 'source', told.cacheHit]).toEqual([[], false, true]);
    }
  });

  it('gets another schema between warms: old or new columns, whole', async () => {
    const instance = open();
    await warm(instance);
    await db.query(`ALTER TABLE ih.${TABLE.name} ADD COLUMN remark text DEFAULT 'new'`);
    await setVersion(2);
    const columnsOf = async (cache: Cache) =>
      Object.keys((await cache.query(filters({ practiceUids: [1] })))[0] ?? {});
    expect(await columnsOf(instance.cache)).not.toContain('remark');
    await whole(instance.cache, [1]);
    await warm(instance);
    for (const { cache } of [instance, open()]) {
      expect(await columnsOf(cache)).toContain('remark');
      await whole(cache, [2]);
    }
    await db.query(`ALTER TABLE ih.${TABLE.name} DROP COLUMN remark, ALTER COLUMN measure_value TYPE bigint`);
    await setVersion(3);
    await whole(instance.cache, [2, 3]);
    await warm(instance);
    for (const { cache } of [instance, open()]) {
      expect(await columnsOf(cache)).not.toContain('remark');
      await whole(cache, [3]);
    }
  });
});

describe('two who warm', () => {
  it('at once: one warms, the other is told who; what serves is one generation', async () => {
    const instances = [open(), open(), open()];
    await warm(instances[0] as Instance);
    for (let version = 2; version < 8; version += 1) {
      await setVersion(version);
      const told = await Promise.all(instances.map((instance) => warm(instance)));
      const skipped = told.filter((one) => one.skipped === true);
      expect(told.length - skipped.length).toBeGreaterThanOrEqual(1);
      for (const one of skipped) expect(one).toMatchObject({ skipped: true, holder: { pid: process.pid } });
      for (const { cache } of instances) await whole(cache, [version]);
    }
  });

  it('generations only grow, whoever makes them', async () => {
    const seen: number[] = [];
    for (let n = 0; n < 6; n += 1) {
      await setVersion(n + 1);
      const told = await warm(open());
      seen.push(told.generation);
    }
    expect(seen).toEqual(seen.toSorted((a, b) => a - b));
    expect(new Set(seen).size).toBe(seen.length);
  });
});

describe('invalidate and rollback', () => {
  it('invalidate: at once for every reader, and no key is left', async () => {
    const [one, other] = [open(), open()];
    await warm(one);
    await setVersion(2);
    await warm(one);
    await whole(other.cache, [2]);
    await setVersion(3);
    expect((await own()).length).toBeGreaterThan(5);
    await one.cache.invalidate(TABLE.dataSource);
    for (const { cache } of [one, other]) {
      await whole(cache, [3]);
      expect(await cache.isCacheWarm(TABLE.dataSource)).toBe(false);
      expect(await cache.getLastWarmedTime(TABLE.dataSource)).toBeNull();
    }
    await until('no key of the data source is left', async () => (await own()).length === 0);
    await warm(other);
    await whole(one.cache, [3]);
  });

  it('invalidate leaves other data sources alone', async () => {
    const instance = open();
    const sibling: Table = { ...TABLE, dataSource: 1, name: 'sibling' };
    const longer: Table = { ...TABLE, dataSource: 150, name: 'longer' };
    for (const table of [sibling, longer]) {
      await createTable(db, table);
      await insertRows(db, table, ROWS.slice(0, 100));
      await instance.cache.warmCache(table.dataSource, { force: true });
    }
    await warm(instance);
    const others = (await keys()).filter((key) => !OWN.test(key));
    // The pointer, the manifest and at least a frame of each.
    expect(others.filter((key) => /[:{]ds:(1|150)[:}]/.test(key)).length).toBeGreaterThanOrEqual(6);
    await instance.cache.invalidate(TABLE.dataSource);
    await until('no key of the data source is left', async () => (await own()).length === 0);
    const left = await keys();
    expect(others.filter((key) => /[:{]ds:(1|150)[:}]/.test(key) && !left.includes(key))).toEqual([]);
    for (const table of [sibling, longer])
      expect(await instance.cache.isCacheWarm(table.dataSource)).toBe(true);
  });

  it('rollback: the generation before, for everybody; once', async () => {
    const [one, other] = [open(), open()];
    await warm(one);
    await setVersion(2);
    await warm(one);
    await whole(other.cache, [2]);
    await one.cache.rollback(TABLE.dataSource);
    for (const { cache } of [one, other, open()]) {
      await whole(cache, [1]);
      expect((await cache.fetch(filters(), { fallback: 'none' })).layer).not.toBe('source');
    }
    await warm(other);
    for (const { cache } of [one, other]) await whole(cache, [2]);
  });

  it('rollback of what has nothing before it is refused and changes nothing', async () => {
    const instance = open();
    expect(await outcome(instance.cache.rollback(TABLE.dataSource))).toMatchObject({
      error: { code: expect.stringMatching(/^E_(CONFLICT|NOT_FOUND)$/) },
    });
    await warm(instance);
    expect(await outcome(instance.cache.rollback(TABLE.dataSource))).toMatchObject({
      error: { code: expect.stringMatching(/^E_(CONFLICT|NOT_FOUND)$/) },
    });
    await whole(instance.cache, [1]);
  });

  it('every key of the index has an end', async () => {
    await warm(open());
    for (const key of await own())
      expect([key, Number(await server.command('PTTL', key)) > 0]).toEqual([key, true]);
  });
});

describe('what is not known', () => {
  it('a data source that is not described is an error in every form', async () => {
    const { cache } = open();
    const unknown = { datasourceId: 4_242 };
    for (const form of Object.keys(FORMS))
      expect([form, await outcome((FORMS[form] as (typeof FORMS)[string])(cache, unknown))]).toEqual([
        form,
        { error: expect.objectContaining({ code: 'E_NOT_FOUND' }) },
      ]);
    expect(await outcome(cache.warmCache(4_242))).toMatchObject({ error: { code: 'E_NOT_FOUND' } });
    expect(await cache.isCacheWarm(4_242)).toBe(false);
  });

  it('cold is cold: no statistics are invented', async () => {
    const { cache } = open();
    const stats = await cache.getCacheStats(TABLE.dataSource);
    expect(stats).toMatchObject({ isWarm: false, totalEntries: 0 });
    expect(await cache.getLastWarmedTime(TABLE.dataSource)).toBeNull();
    const refused = await outcome(cache.fetch(filters(), { fallback: 'none' }));
    expect(refused).toMatchObject({ error: { code: 'E_CONFLICT' } });
    await whole(cache, [1]);
  });
});
