/**
 * No row outside the scope, in any form of an answer and in no byte of it; and what may show nothing asks nobody. Not what a
 * scope is made of: `rbac-oracle.spec.ts` judges that. `BCOS_SEED` chooses another series.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AnalyticsCacheV2, type Engine, scopeOf } from '../index.js';
import { type Server, startValkey } from './servers/index.mjs';
import { rowsOfColumns } from './support/analytics-answers.js';
import {
  allows,
  CANARIES,
  canaryRows,
  FREQUENCY,
  type Lists,
  lines,
  MEASURE,
  owners,
  PRACTICES,
  PROVIDERS,
  strangers,
} from './support/analytics-canaries.js';
import { addPeople, randomPerson, type Seer, seers } from './support/analytics-people.js';
import type { Aggregation, Cache, Filters } from './support/analytics-questions.js';
import { createTable, insertRows } from './support/analytics-tables.js';
import { type Database, Databases } from './support/database.js';
import { Engines } from './support/engines.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';
import { StatementCounter } from './support/statement-counter.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_261_130);
const PEOPLE = rounds(10_000, 200);
const QUESTIONS_EACH = 10;
const PER_TEST = rounds(1_000, 100);
const ALL = lines();

let databases: Databases;
let db: Database;
let server: Server;
let counter: StatementCounter;
const engines = new Engines();
let warm: { engine: Engine; cache: Cache };
let cold: { engine: Engine; cache: Cache };
let everybody: Seer[];

beforeAll(async () => {
  [databases, server] = await Promise.all([Databases.start(), startValkey()]);
  db = await databases.create();
  counter = await StatementCounter.start(databases.server.port);
  await createTable(db, CANARIES);
  await insertRows(db, CANARIES, canaryRows(ALL));
  const patient = { cacheDeadlineMs: 5_000, cacheSourceDeadlineMs: 60_000, cacheBulkheadQueue: 100_000 };
  const open = (options: object) => {
    const engine = engines.start(patient, options, { databaseUrl: counter.through(db.url) });
    return { engine, cache: new AnalyticsCacheV2(engine) };
  };
  warm = open({ redisHost: server.host, redisPort: server.port });
  cold = open({ cacheStore: 'none' });
  const random = new Random(SEED, 2);
  const people = Array.from({ length: PEOPLE }, () =>
    randomPerson(random, { practices: PRACTICES, providers: PROVIDERS }),
  );
  everybody = await seers(warm.engine, await addPeople(db, people));
  expect((await warm.cache.warmCache(CANARIES.dataSource)).totalRows).toBe(ALL.length);
});
afterAll(async () => {
  await engines[Symbol.asyncDispose]();
  await counter?.[Symbol.asyncDispose]();
  await server?.stop();
  await databases?.[Symbol.asyncDispose]();
});

const question = (more: object = {}): Filters =>
  ({
    datasourceId: CANARIES.dataSource,
    measure: MEASURE,
    frequency: FREQUENCY,
    ...more,
  }) as unknown as Filters;
const everywhere = (more: object = {}): Filters =>
  ({ datasourceId: CANARIES.dataSource, ...more }) as unknown as Filters;

/** By whom: group by texts that name the owner, and results that are such texts. */
const grouped = ({ columns: _, ...filters }: Filters & { columns?: unknown }): Aggregation =>
  ({
    ...filters,
    groupBy: ['practice', 'provider_uid'],
    metrics: [
      { function: 'count', as: 'rows' },
      { function: 'min', column: 'note', as: 'first' },
      { function: 'max', column: 'note', as: 'last' },
    ],
  }) as unknown as Aggregation;

/** Every way to ask: what is handed out, and how many rows of the table it stands for. */
const FORMS: Readonly<
  Record<string, (cache: Cache, filters: Filters) => Promise<{ answer: unknown; rows: number }>>
> = {
  query: async (cache, filters) => {
    const answer = await cache.query(filters);
    return { answer, rows: answer.length };
  },
  queryColumns: async (cache, filters) => {
    const answer = await cache.queryColumns(filters);
    // Dictionaries and values are made when they are asked for.
    const all = Object.values(answer.columns).map((column) =>
      column.kind === 'codes' ? column.dictionary : column.values,
    );
    return { answer: [answer, all, rowsOfColumns(answer)], rows: answer.rowCount };
  },
  queryJson: async (cache, filters) => {
    const answer = await cache.queryJson(filters);
    return { answer, rows: (JSON.parse(answer.toString('utf8')) as unknown[]).length };
  },
  aggregate: async (cache, filters) => {
    const answer = await cache.aggregate(grouped(filters));
    const rows = (answer as unknown as { rows: number }[]).reduce((sum, group) => sum + group.rows, 0);
    return { answer, rows };
  },
  batchQuery: async (cache, filters) => {
    const answer = await cache.batchQuery([filters, filters]);
    const [first, second] = answer as unknown as [unknown[], unknown[]];
    return { answer, rows: first.length === second.length ? first.length : Number.NaN };
  },
  fetch: async (cache, filters) => {
    const answer = await cache.fetch(filters, { fallback: 'source' });
    return { answer, rows: answer.rows.length };
  },
};
const NAMES = Object.keys(FORMS);

const some = (random: Random, list: readonly number[], most: number): number[] =>
  Array.from({ length: random.upTo(most) }, () => random.of(list));

function randomLists(random: Random): Lists {
  return {
    ...(random.chance(0.5) ? { practiceUids: some(random, [...PRACTICES, 61, -1], 12) } : {}),
    ...(random.chance(0.3) ? { providerUids: some(random, [...PROVIDERS, 9], 4) } : {}),
  };
}

const counts = {
  people: 0,
  questions: 0,
  nothing: 0,
  own: 0,
  practices: 0,
  all: 0,
  none: 0,
  rows: 0,
  source: 0,
  context: 0,
};

/** Complaints about random questions of one person. */
async function play(at: number): Promise<string[]> {
  const random = new Random(SEED, 100 + at);
  const { context, scope } = everybody[at] as Seer;
  const complaints: string[] = [];
  for (let n = 0; n < QUESTIONS_EACH; n += 1) {
    const lists = randomLists(random);
    const allowed = ALL.filter((line) => allows(scope, lists, line));
    const form = random.of(NAMES);
    const bySource = random.chance(0.1);
    const { cache } = bySource ? cold : warm;
    const ask = FORMS[form] as (typeof FORMS)[string];
    const filters = random.chance(0.8) ? question({ ...lists, scope }) : everywhere({ ...lists, scope });
    const { answer, rows } = await ask(cache, filters);
    const wrong = strangers(answer, allowed);
    const who = `seed ${SEED}, person ${at}, ${form}, ${JSON.stringify(lists)}`;
    if (wrong.length > 0) complaints.push(`${who}: rows of ${wrong.join(', ')}`);
    if (rows !== allowed.length) complaints.push(`${who}: ${rows} rows instead of ${allowed.length}`);
    counts.questions += 1;
    counts.rows += rows;
    counts.none += rows === 0 ? 1 : 0;
    counts.source += bySource ? 1 : 0;
  }
  const lists = randomLists(random);
  const told = await warm.cache.queryForContext(context, question({ ...lists }));
  const wrong = strangers(
    told,
    ALL.filter((line) => allows(scope, lists, line)),
  );
  if (wrong.length > 0)
    complaints.push(`seed ${SEED}, person ${at}, queryForContext: rows of ${wrong.join(', ')}`);
  counts.context += told.length > 0 ? 1 : 0;
  counts.people += 1;
  counts.nothing += scope.kind === 'nothing' ? 1 : 0;
  counts.all += scope.kind === 'all' ? 1 : 0;
  counts.own += scope.kind === 'rows' && scope.providers !== null ? 1 : 0;
  counts.practices += scope.kind === 'rows' && scope.providers === null ? 1 : 0;
  return complaints;
}

describe('no row outside the scope', () => {
  const starts = Array.from({ length: Math.ceil(PEOPLE / PER_TEST) }, (_, index) => index * PER_TEST);

  it.each(starts)('whatever is asked, by person %d and those after', { timeout: 600_000 }, async (start) => {
    const complaints: string[] = [];
    const at = Array.from({ length: Math.min(PER_TEST, PEOPLE - start) }, (_, index) => start + index);
    for (let next = 0; next < at.length; next += 8)
      complaints.push(...(await Promise.all(at.slice(next, next + 8).map(play))).flat());
    expect(complaints.slice(0, 5), `${complaints.length} complaints`).toEqual([]);
  });

  it('and the search finds canaries where they are', async () => {
    console.info(`analytics scopes, seed ${SEED}: ${JSON.stringify(counts)}`);
    expect(Object.entries(counts).filter(([, number]) => number === 0)).toEqual([]);
    // Without a scope a trusted caller sees all of them: in every form, from the index and from the source.
    for (const name of NAMES) {
      for (const { cache } of [warm, cold]) {
        const { answer, rows } = await (FORMS[name] as (typeof FORMS)[string])(cache, everywhere());
        expect([name, owners(answer).size, rows]).toEqual([name, ALL.length / 3, ALL.length]);
      }
    }
  });

  it('queryForContext takes no scope from its caller', async () => {
    const narrow = everybody.find(({ scope }) => scope.kind === 'rows') as Seer;
    const wide = everybody.find(({ scope }) => scope.kind === 'all') as Seer;
    const given = question({ scope: wide.scope });
    const told = warm.cache.queryForContext(narrow.context, given);
    await expect(told).rejects.toMatchObject({ code: 'E_INVALID_ARGUMENT', field: 'scope' });
  });

  it('a scope that scopeOf did not make is refused, whatever it says', async () => {
    const real = (everybody.find(({ scope }) => scope.kind === 'rows') as Seer).scope;
    const forged = [
      { kind: 'all', practices: [], providers: null },
      { ...real },
      JSON.parse(JSON.stringify(real)),
      Object.create(real),
      new Proxy(real, {}),
      'all',
      null,
      true,
    ];
    for (const scope of forged) {
      for (const name of NAMES) {
        const told = await (FORMS[name] as (typeof FORMS)[string])(warm.cache, question({ scope })).catch(
          (error: unknown) => error,
        );
        expect([name, told]).toEqual([
          name,
          expect.objectContaining({ code: expect.stringMatching(/^E_(SCOPE|INVALID_ARGUMENT)$/) }),
        ]);
      }
    }
    expect(() => scopeOf({ ...(everybody[0] as Seer).context })).toThrow();
  });
});

/** Commands with which the store could be asked for data. Heartbeats and probes are none. */
async function reads(): Promise<number> {
  const info = String(await server.command('INFO', 'commandstats'));
  const names = ['get', 'mget', 'getrange', 'strlen', 'exists', 'eval', 'evalsha', 'hget', 'scan'];
  const calls = names.map((name) =>
    Number(new RegExp(`^cmdstat_${name}:calls=(\\d+)`, 'm').exec(info)?.[1] ?? 0),
  );
  return calls.reduce((sum, one) => sum + one, 0);
}

describe('what shows nothing asks nobody', () => {
  const nothing = (): Record<string, object> => {
    const nobody = everybody.find(({ scope }) => scope.kind === 'nothing') as Seer;
    const narrow = everybody.find(({ scope }) => scope.kind === 'rows') as Seer;
    const foreign = PRACTICES.filter((id) => !narrow.scope.practices.includes(id));
    return {
      'no practices': { practiceUids: [] },
      'no providers': { providerUids: [] },
      'neither, with everything else': {
        practiceUids: [],
        providerUids: [],
        startDate: '2024-01-01',
        columns: ['note'],
      },
      'no practices of a list of providers': { practiceUids: [], providerUids: [1] },
      'scope nothing': { scope: nobody.scope },
      'scope nothing and lists': { scope: nobody.scope, practiceUids: [1], providerUids: [1] },
      'practices of others': { scope: narrow.scope, practiceUids: foreign },
    };
  };

  it('in any form: counted at the engine, at the store and on the wire to Postgres', async () => {
    // Schema and connections are known from here on.
    for (const name of NAMES) await (FORMS[name] as (typeof FORMS)[string])(warm.cache, question());
    for (const [what, more] of Object.entries(nothing())) {
      for (const name of NAMES) {
        const before = [await reads(), counter.statements, warm.engine.getMetrics().source.statements];
        const { answer, rows } = await (FORMS[name] as (typeof FORMS)[string])(warm.cache, question(more));
        const after = [await reads(), counter.statements, warm.engine.getMetrics().source.statements];
        expect([what, name, rows, owners(answer).size, ...after]).toEqual([what, name, 0, 0, ...before]);
      }
    }
  });

  it('what comes has the columns that rows would have', async () => {
    for (const more of Object.values(nothing())) {
      const full = await warm.cache.queryColumns(question('columns' in more ? { columns: ['note'] } : {}));
      const empty = await warm.cache.queryColumns(question(more));
      expect([empty.rowCount, empty.names]).toEqual([0, full.names]);
      expect((await warm.cache.queryJson(question(more))).toString('utf8')).toBe('[]');
      expect(await warm.cache.query(question(more))).toEqual([]);
      // As in SQL: without columns to group by there is one group of nothing.
      const all = {
        groupBy: [],
        metrics: [
          { function: 'count', as: 'rows' },
          { function: 'max', column: 'note', as: 'last' },
        ],
      };
      const { columns: _, ...filters } = question(more) as Filters & { columns?: unknown };
      const told = await warm.cache.aggregate({ ...filters, ...all } as unknown as Aggregation);
      expect(told).toEqual([{ rows: 0, last: null }]);
    }
  });

  it('even while neither can answer', async () => {
    const unlock = await db.lock(`ih.${CANARIES.name}`);
    await server.pause();
    try {
      for (const more of Object.values(nothing())) {
        for (const name of NAMES) {
          const from = performance.now();
          const { rows } = await (FORMS[name] as (typeof FORMS)[string])(warm.cache, question(more));
          expect([name, rows, performance.now() - from < 1_000]).toEqual([name, 0, true]);
        }
      }
    } finally {
      await server.resume();
      await unlock();
    }
  });

  it('a cold data source is not read for it either', async () => {
    const unlock = await db.lock(`ih.${CANARIES.name}`);
    try {
      for (const more of Object.values(nothing())) {
        const { rows } = await (FORMS['query'] as (typeof FORMS)[string])(cold.cache, question(more));
        expect(rows).toBe(0);
      }
    } finally {
      await unlock();
    }
  });
});
