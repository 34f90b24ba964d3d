/**
 * Random questions to the analytics index - through its frames, through another instance that reads them from the store, and
 * through the fallback that asks the source - say what one SQL text says: the same rows in the same order, exact to the last
 * digit, as rows, columns, JSON and aggregates. Not about changes: tables stand still while they are asked. `BCOS_SEED`
 * chooses another series; a complaint names the seed and the question, which is enough to see it again.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2, type Engine } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import {
  type Form,
  type How,
  parting,
  rowsOfColumns,
  type Texts,
  valuesOf,
} from './support/analytics-answers.js';
import { addPeople, randomPerson, seers } from './support/analytics-people.js';
import {
  type Aggregation,
  type Asked,
  type Cache,
  filtersOf,
  groupsSql,
  numbers,
  randomGroups,
  randomQuestion,
  rowsSql,
  type World,
} from './support/analytics-questions.js';
import {
  createTable,
  fillWide,
  HARD,
  hardRows,
  IDS,
  insertRows,
  type Row,
  type Size,
  sizeOf,
  WIDE,
  WIDE_FREQUENCIES,
  WIDE_MEASURES,
  WIDEST,
} from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines } from './support/engines.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_261_130);
const QUESTIONS = rounds(10_000, 300);
const WIDE_QUESTIONS = rounds(400, 30);
const PER_TEST = rounds(1_000, 100);
const HARD_ROWS = rounds(3_000, 1_200);
/** Above 120,000 combinations and 281,000 rows of one measure in full. */
const SIZE: Size =
  rounds(1, 0) === 1
    ? { practices: 230, providers: 12, days: 95 }
    : { practices: 20, providers: 5, days: 40 };
const FORMS: readonly Form[] = ['rows', 'columns', 'json'];

let databases: Databases;
let db: Database;
let server: Server;
const engines = new Engines();
/** Who is asked: the process that warmed, one that fetches frames, one without a store, whose every answer is the source's. */
let asked: Readonly<Record<'near' | 'store' | 'source', { engine: Engine; cache: Cache }>>;
let hard: World;
let wide: World;

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  db = await databases.create();
  await createTable(db, HARD);
  const rows = hardRows(SEED, HARD_ROWS);
  await insertRows(db, HARD, rows);
  await createTable(db, WIDE);
  await fillWide(db, SIZE);
  const patient = {
    cacheDeadlineMs: 10_000,
    cacheQueryTimeout: 60_000,
    cacheSourceDeadlineMs: 60_000,
    cacheBulkheadQueue: 100_000,
  };
  const shared = { redisHost: server.host, redisPort: server.port, databaseUrl: db.url };
  const open = (options: object) => {
    const engine = engines.start(patient, options);
    return { engine, cache: new AnalyticsCacheV2(engine) };
  };
  asked = {
    near: open(shared),
    store: open(shared),
    source: open({ cacheStore: 'none', databaseUrl: db.url }),
  };
  const random = new Random(SEED, 2);
  const organizational = IDS.practices.filter((id) => Math.abs(id) < 2 ** 31);
  const people = Array.from({ length: 40 }, () =>
    randomPerson(random, { practices: organizational, providers: IDS.providers }),
  );
  const scopes = (await seers(asked.near.engine, await addPeople(db, people))).map(({ scope }) => scope);
  hard = { table: HARD, sample: rows, practices: IDS.practices, providers: IDS.providers, scopes };
  wide = { ...(await wideWorld()), scopes };
  for (const table of [HARD, WIDE]) {
    const { totalRows } = await asked.near.cache.warmCache(table.dataSource);
    const [counted] = await db.query<{ rows: number }>(`SELECT count(*)::int AS rows FROM ih.${table.name}`);
    expect(totalRows).toBe(counted?.rows);
  }
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

async function wideWorld(): Promise<Omit<World, 'scopes'>> {
  const sample = await db.query<Row>(
    `SELECT practice, practice_uid, provider_uid, measure, frequency, date_index::text AS date_index,
            measure_value::text AS measure_value, id::text AS id FROM ih.wide_measures ORDER BY id * 7919 % 1000003 LIMIT 500`,
  );
  const upTo = (count: number) => Array.from({ length: count + 1 }, (_, id) => id);
  return { table: WIDE, sample, practices: upTo(SIZE.practices), providers: upTo(SIZE.providers) };
}

/** What was asked, and how often it had anything to find. */
const counts = {
  ...{
    questions: 0,
    rows: 0,
    empty: 0,
    scoped: 0,
    nothing: 0,
    aggregates: 0,
    groups: 0,
    near: 0,
    store: 0,
    source: 0,
  },
  ...{ asRows: 0, asColumns: 0, asJson: 0, exact: 0, emptyLists: 0, conditions: 0 },
};

/** An error is a complaint as well: it names the question. */
const refused = (error: unknown): string => `an error: ${String(error)}`;

async function given(cache: Cache, world: World, question: Asked, { form, exact }: How) {
  const [filters, options] = [filtersOf(world.table, question), numbers(exact)];
  if (form === 'rows') return cache.query(filters, options);
  if (form === 'columns') return rowsOfColumns(await cache.queryColumns(filters, options));
  const text = (await cache.queryJson(filters, options)).toString('utf8');
  return JSON.parse(text) as Record<string, unknown>[];
}

/** Complaints about one question, asked of everybody. */
async function judged(world: World, question: Asked, random: Random): Promise<string[]> {
  const expected = rowsSql(world.table, question);
  const texts = await db.query<Texts>(expected.text, [...expected.values]);
  const complaints: string[] = [];
  const complain = (how: string, complaint: string | undefined) => {
    if (complaint === undefined) return;
    const { scope, ...rest } = question;
    const seen = scope && { kind: scope.kind, practices: scope.practices, providers: scope.providers };
    const shown = JSON.stringify({ ...rest, scope: seen }, (_, value) =>
      typeof value === 'bigint' ? `${value}n` : value,
    );
    complaints.push(`${how}: ${complaint}\n  ${shown}`);
  };
  for (const [name, { cache }] of Object.entries(asked)) {
    const how: How = { form: random.of(FORMS), exact: random.chance(0.5) };
    const right = valuesOf(expected, texts, how);
    const told = given(cache, world, question, how).then((rows) => parting(rows, right), refused);
    complain(`${name}, ${how.form}, ${how.exact ? 'exact' : 'numbers'}`, await told);
    count(how);
  }
  counts.questions += 1;
  counts.rows += texts.length;
  counts.empty += texts.length === 0 ? 1 : 0;
  counts.scoped += question.scope?.kind === 'rows' ? 1 : 0;
  counts.nothing += question.scope?.kind === 'nothing' ? 1 : 0;
  counts.emptyLists += question.practiceUids?.length === 0 || question.providerUids?.length === 0 ? 1 : 0;
  counts.conditions += question.advancedFilters?.length ?? 0;
  if (random.chance(0.5)) await judgeGroups(world, question, random, complain);
  return complaints;
}

function count({ form, exact }: How): void {
  counts.asRows += form === 'rows' ? 1 : 0;
  counts.asColumns += form === 'columns' ? 1 : 0;
  counts.asJson += form === 'json' ? 1 : 0;
  counts.exact += exact ? 1 : 0;
}

async function judgeGroups(
  world: World,
  { columns: _, ...question }: Asked,
  random: Random,
  complain: (how: string, complaint: string | undefined) => void,
): Promise<void> {
  const groups = randomGroups(random, world);
  const expected = groupsSql(world.table, question, groups);
  const texts = await db.query<Texts>(expected.text, [...expected.values]);
  for (const [name, { cache }] of Object.entries(asked)) {
    const exact = random.chance(0.5);
    const right = valuesOf(expected, texts, { form: 'rows', exact });
    const filters = { ...filtersOf(world.table, question), ...groups } as unknown as Aggregation;
    const judge = (rows: readonly object[]) => parting(rows as readonly Record<string, unknown>[], right);
    const told = cache.aggregate(filters, numbers(exact)).then(judge, refused);
    complain(`${name}, aggregate ${JSON.stringify(groups)}, ${exact ? 'exact' : 'numbers'}`, await told);
  }
  counts.aggregates += 1;
  counts.groups += texts.length;
}

/** Questions of which most have a measure and a frequency: those of charts. */
function chart(random: Random): Asked {
  const question = randomQuestion(random, wide);
  if (random.chance(0.1))
    return {
      ...question,
      ...WIDEST,
      practiceUids: [random.upTo(SIZE.practices), random.upTo(SIZE.practices)],
    };
  return { ...question, measure: random.of(WIDE_MEASURES), frequency: random.of(WIDE_FREQUENCIES) };
}

describe('an answer equals SQL', () => {
  const starts = Array.from({ length: Math.ceil(QUESTIONS / PER_TEST) }, (_, index) => index * PER_TEST);

  it.each(starts)(
    'over values that are hard to keep apart, from question %d on',
    { timeout: 600_000 },
    async (start) => {
      const complaints: string[] = [];
      for (let at = start; at < Math.min(start + PER_TEST, QUESTIONS); at += 1) {
        const random = new Random(SEED, 1_000 + at);
        const wrong = await judged(hard, randomQuestion(random, hard), random);
        complaints.push(...wrong.map((complaint) => `seed ${SEED}, question ${at}, ${complaint}`));
      }
      // A defect shows in many places; the first ones say enough.
      expect(complaints.slice(0, 5), `${complaints.length} complaints`).toEqual([]);
    },
  );

  it('over many combinations and one wide measure', { timeout: 600_000 }, async () => {
    const complaints: string[] = [];
    for (let at = 0; at < WIDE_QUESTIONS; at += 1) {
      const random = new Random(SEED, 1_000_000 + at);
      const wrong = await judged(wide, chart(random), random);
      complaints.push(...wrong.map((complaint) => `seed ${SEED}, wide question ${at}, ${complaint}`));
    }
    expect(complaints.slice(0, 5), `${complaints.length} complaints`).toEqual([]);
  });

  it('all rows of the wide measure, in every form', { timeout: 600_000 }, async () => {
    const expected = rowsSql(WIDE, WIDEST);
    const texts = await db.query<Texts>(expected.text, [...expected.values]);
    expect(texts.length).toBe(sizeOf(SIZE).widest);
    for (const form of FORMS) {
      const how: How = { form, exact: true };
      const right = valuesOf(expected, texts, how);
      for (const [name, { cache }] of Object.entries(asked))
        expect([name, form, parting(await given(cache, wide, WIDEST, how), right)]).toEqual([
          name,
          form,
          undefined,
        ]);
    }
  });

  it('statistics count what is there', async () => {
    const [counted] = await db.query<{ combinations: number }>(
      `SELECT count(*)::int AS combinations FROM
         (SELECT DISTINCT practice_uid, provider_uid, measure, frequency FROM ih.wide_measures) AS q`,
    );
    expect(counted?.combinations).toBe(sizeOf(SIZE).combinations);
    const stats = await asked.near.cache.getCacheStats(WIDE.dataSource);
    expect(stats).toMatchObject({
      totalEntries: counted?.combinations,
      isWarm: true,
      uniqueMeasures: WIDE_MEASURES.length + 1,
      uniquePractices: SIZE.practices,
      uniqueProviders: SIZE.providers,
    });
    expect([...stats.uniqueFrequencies].toSorted()).toEqual(
      [...WIDE_FREQUENCIES, WIDEST.frequency].toSorted(),
    );
  });

  it('each was asked where it should be, and every kind of question was among them', async () => {
    const of = async (who: keyof typeof asked, fallback: 'source' | 'none') =>
      (await asked[who].cache.fetch(filtersOf(WIDE, { ...WIDEST, practiceUids: [1] }), { fallback })).layer;
    counts.near += (await of('near', 'none')) === 'source' ? 0 : 1;
    counts.store += (await of('store', 'none')) === 'source' ? 0 : 1;
    counts.source += (await of('source', 'source')) === 'source' ? 1 : 0;
    console.info(`analytics oracle, seed ${SEED}: ${JSON.stringify(counts)}`);
    expect(counts.questions).toBe(QUESTIONS + WIDE_QUESTIONS);
    expect(Object.entries(counts).filter(([, number]) => number === 0)).toEqual([]);
    // Nothing was answered by the source behind our back.
    const sent = (['near', 'store'] as const).map((who) => {
      const { analytics_rows, analytics_groups } = asked[who].engine.getMetrics().source.statementsByName;
      return [analytics_rows, analytics_groups];
    });
    expect(sent).toEqual([
      [0, 0],
      [0, 0],
    ]);
  });
});
