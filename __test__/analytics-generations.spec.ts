/**
 * Readers during publishes: every value of the table is the number of its generation, so an answer with two values is a
 * mixture, and a smaller one than before is a step back. Readers of three processes' worth of engines ask in every form; not
 * about faults (`analytics-faults.spec.ts`). Invariant: a reader never slows down to be right.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2, type Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { rowsOfColumns } from './support/analytics-answers.js';
import type { Aggregation, Cache, Filters } from './support/analytics-questions.js';
import { createTable, insertRows, type Row, type Table } from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines, until } from './support/engines.js';
import { rounds } from './support/rounds.js';

const PUBLISHES = rounds(1_000, 60);
const READERS = 16;

const TABLE: Table = {
  dataSource: 14,
  name: 'numbered',
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
    { name: 'note', kind: 'text', sql: 'text' },
  ],
};
const MEASURES = ['Charges', 'Payments', 'Visits'];
const FREQUENCIES = ['Monthly', 'Weekly'];
const PRACTICES = 8;
const ROWS = MEASURES.length * FREQUENCIES.length * PRACTICES * 2;

/** Several frames: every measure and frequency has its own. */
const rows: Row[] = MEASURES.flatMap((measure, m) =>
  FREQUENCIES.flatMap((frequency, f) =>
    Array.from({ length: PRACTICES * 2 }, (_, n) => ({
      id: (m * FREQUENCIES.length + f) * PRACTICES * 2 + n + 1,
      practice_uid: n % PRACTICES,
      provider_uid: n < PRACTICES ? 1 : null,
      measure,
      frequency,
      date_index: '2024-01-01',
      measure_value: '0',
      note: 'generation 0',
    })),
  ),
);

let databases: Databases;
let db: Database;
let server: Server;
const engines = new Engines();
let warmer: { engine: Engine; cache: Cache };
let readers: { engine: Engine; cache: Cache }[];

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  db = await databases.create();
  await createTable(db, TABLE);
  await insertRows(db, TABLE, rows);
  const options = { redisHost: server.host, redisPort: server.port, databaseUrl: db.url };
  const patient = { cacheDeadlineMs: 5_000, cacheQueryTimeout: 30_000, cacheSourceDeadlineMs: 60_000 };
  const open = () => {
    const engine = engines.start(patient, options);
    return { engine, cache: new AnalyticsCacheV2(engine) };
  };
  warmer = open();
  // One of them shares the engine that warms.
  readers = [warmer, open(), open()];
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

const filters = (more: object = {}): Filters =>
  ({ datasourceId: TABLE.dataSource, ...more }) as unknown as Filters;
const values = (answer: readonly object[]): number[] =>
  (answer as readonly { measure_value: number; note: string }[]).flatMap(({ measure_value, note }) => [
    measure_value,
    Number(note.replace('generation ', '')),
  ]);

/** Every form, each as the values that it shows; and how many rows they stand for. */
const FORMS: Readonly<Record<string, (cache: Cache) => Promise<{ values: number[]; rows: number }>>> = {
  query: async (cache) => {
    const answer = await cache.query(filters());
    return { values: values(answer), rows: answer.length };
  },
  columns: async (cache) => {
    const answer = rowsOfColumns(await cache.queryColumns(filters()));
    return { values: values(answer), rows: answer.length };
  },
  json: async (cache) => {
    const answer = JSON.parse((await cache.queryJson(filters())).toString('utf8')) as object[];
    return { values: values(answer), rows: answer.length };
  },
  aggregate: async (cache) => {
    const [all] = (await cache.aggregate({
      ...filters(),
      groupBy: [],
      metrics: [
        { function: 'min', column: 'measure_value', as: 'least' },
        { function: 'max', column: 'measure_value', as: 'most' },
        { function: 'count', as: 'rows' },
      ],
    } as unknown as Aggregation)) as unknown as { least: number; most: number; rows: number }[];
    return { values: [all?.least ?? Number.NaN, all?.most ?? Number.NaN], rows: all?.rows ?? 0 };
  },
  batch: async (cache) => {
    // Six charts of one dashboard: one generation for all of them.
    const asked = MEASURES.flatMap((measure) =>
      FREQUENCIES.map((frequency) => filters({ measure, frequency })),
    );
    const answers = (await cache.batchQuery(asked)) as unknown as object[][];
    return { values: answers.flatMap(values), rows: answers.reduce((sum, { length }) => sum + length, 0) };
  },
};

interface Seen {
  answers: number;
  fromSource: number;
  highest: number;
  readonly complaints: string[];
}

/** The number of the generation that was last acknowledged, and whether the publishing goes on. */
const news = { acknowledged: 0, ended: false };

async function read(at: number): Promise<Seen> {
  const { engine, cache } = readers[at % readers.length] as (typeof readers)[number];
  const names = Object.keys(FORMS);
  const seen: Seen = { answers: 0, fromSource: 0, highest: 0, complaints: [] };
  for (let n = at; !news.ended || seen.answers < names.length; n += 1) {
    const form = names[n % names.length] as string;
    const least = Math.max(news.acknowledged, seen.highest);
    const answer = await (FORMS[form] as (typeof FORMS)[string])(cache);
    const distinct = [...new Set(answer.values)];
    if (answer.rows !== ROWS) seen.complaints.push(`${form}: ${answer.rows} rows instead of ${ROWS}`);
    if (distinct.length !== 1) seen.complaints.push(`${form}: a mixture of ${distinct.join(', ')}`);
    const [value = -1] = distinct;
    if (value < least) seen.complaints.push(`${form}: ${value} after ${least}`);
    seen.highest = Math.max(seen.highest, value);
    seen.answers += 1;
    // A turn of the event loop, so that the publishing goes on.
    await new Promise((resolve) => setImmediate(resolve));
  }
  seen.fromSource = engine.getMetrics().source.statements;
  return seen;
}

async function publish(number: number): Promise<void> {
  await db.query(`UPDATE ih.${TABLE.name} SET measure_value = $1, note = $2`, [
    number,
    `generation ${number}`,
  ]);
  const told = await warmer.cache.warmCache(TABLE.dataSource, { force: true });
  expect([number, told.skipped ?? false, told.totalRows]).toEqual([number, false, ROWS]);
  news.acknowledged = number;
}

describe('generations never mix', () => {
  it(`${READERS} readers during ${PUBLISHES} publishes`, { timeout: 900_000 }, async () => {
    await publish(0);
    const statementsBefore = readers.slice(1).map(({ engine }) => engine.getMetrics().source.statements);
    const reading = Array.from({ length: READERS }, (_, at) => read(at));
    const generations: number[] = [];
    try {
      for (let number = 1; number <= PUBLISHES; number += 1) {
        await publish(number);
        const { generation } = await warmer.cache.fetch(filters({ practiceUids: [1] }), { fallback: 'none' });
        generations.push(Number(generation));
      }
    } finally {
      news.ended = true;
    }
    const seen = await Promise.all(reading);
    expect(seen.flatMap(({ complaints }) => complaints).slice(0, 5)).toEqual([]);
    expect(generations).toEqual(generations.toSorted((a, b) => a - b));
    expect(new Set(generations).size).toBe(PUBLISHES);
    const answers = seen.reduce((sum, one) => sum + one.answers, 0);
    const statementsAfter = readers.slice(1).map(({ engine }) => engine.getMetrics().source.statements);
    console.info(
      `analytics generations: ${PUBLISHES} publishes, ${answers} answers; statements of the two engines that only read: ` +
        statementsAfter.map((after, at) => after - (statementsBefore[at] ?? 0)).join(' and '),
    );
    expect(answers).toBeGreaterThan(PUBLISHES);
    // Every reader saw the last one, and several on the way.
    expect(seen.map(({ highest }) => highest)).toEqual(Array.from({ length: READERS }, () => PUBLISHES));
  });

  it('leaves no more in the store than the generations that are kept', { timeout: 180_000 }, async () => {
    const keys = async (pattern: string) => {
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
      return [...found];
    };
    const frames = () => keys(`*cache:ds:${TABLE.dataSource}:*`);
    const manifests = () => keys(`*idx:ds:${TABLE.dataSource}:*`);
    const groups = MEASURES.length * FREQUENCIES.length;
    // Those who still read an older one are given a while.
    await until(
      'only the live generation and the one before are left',
      async () => (await manifests()).length === 2 && (await frames()).length === 2 * groups,
      90_000,
    );
    for (const key of [...(await frames()), ...(await manifests())])
      expect(Number(await server.command('PTTL', key))).toBeGreaterThan(0);
  });
});
