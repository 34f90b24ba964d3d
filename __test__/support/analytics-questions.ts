/**
 * Random questions to a data source, and the same questions as SQL. Not the judge of answers (`analytics-answers.ts`).
 * Invariant: the SQL shares nothing with the package: identifiers are those of the tables here, values are parameters, and
 * every comparison is Postgres's own, on the type of the column.
 */
import type { AnalyticsCacheV2, Scope } from '../../index.js';
import { type Column, type Kind, type Row, type Table, visible } from './analytics-tables.js';
import type { Random } from './rbac-data.js';

export type Cache = InstanceType<typeof AnalyticsCacheV2>;
export type Filters = Parameters<Cache['query']>[0];
export type Aggregation = Parameters<Cache['aggregate']>[0];

type Scalar = string | number | boolean | bigint | null;
interface Condition {
  readonly field: string;
  readonly operator: 'eq' | 'neq' | 'gt' | 'gte' | 'lt' | 'lte' | 'in' | 'not_in' | 'like' | 'between';
  readonly value: Scalar | readonly Scalar[];
}

/** One question, in the words of the package but mutable and complete. */
export interface Asked {
  measure?: string;
  frequency?: string;
  practiceUids?: number[];
  providerUids?: number[];
  startDate?: string;
  endDate?: string;
  advancedFilters?: Condition[];
  columns?: string[];
  scope?: Scope;
}

export interface By {
  readonly column: string;
  readonly unit?: 'day' | 'week' | 'month' | 'quarter' | 'year';
}
export interface Metric {
  readonly function: 'count' | 'distinct' | 'sum' | 'avg' | 'min' | 'max';
  readonly column?: string;
  readonly as: string;
}

export interface World {
  readonly table: Table;
  /** Rows whose values questions are made of. */
  readonly sample: readonly Row[];
  readonly practices: readonly number[];
  readonly providers: readonly number[];
  readonly scopes: readonly Scope[];
}

const OPERATORS = ['eq', 'neq', 'gt', 'gte', 'lt', 'lte', 'in', 'not_in', 'like', 'between'] as const;
const UNITS = ['day', 'week', 'month', 'quarter', 'year'] as const;

/** A value of the column, in one of the ways it may be written. */
function operand(random: Random, { name, kind }: Column, sample: readonly Row[]): Scalar {
  if (random.chance(0.03)) return null;
  const cell = random.of(sample)[name] ?? random.of(sample)[name] ?? null;
  if (cell === null) return null;
  if (kind === 'int' && random.chance(0.1)) return Number(cell) + 0.5;
  if (kind === 'bigint' && random.chance(0.5)) return BigInt(String(cell));
  if (kind === 'bigint' && Number.isSafeInteger(Number(cell))) return Number(cell);
  if (kind === 'int') return Number(cell);
  if (kind === 'numeric' && random.chance(0.3) && String(Number(cell)) === cell) return Number(cell);
  if (kind === 'float') return Number.isFinite(Number(cell)) ? Number(cell) : 0;
  if (kind === 'timestamptz' || kind === 'timestamp') return `${String(cell).replace(' ', 'T')}Z`;
  return cell as Scalar;
}

function pattern(random: Random, column: Column, sample: readonly Row[]): string {
  // A backslash escapes; a text that ends with one is no pattern.
  const text = String(random.of(sample)[column.name] ?? 'a').replaceAll('\\', '_');
  const [from, to] = [random.upTo(1), Math.max(1, text.length - random.upTo(2))];
  const middle = Array.from(text).slice(from, to).join('');
  return random.of([`%${middle}%`, `${middle}%`, `%${middle}`, text, '%', '_%', `_${middle}%`]);
}

function condition(random: Random, world: World): Condition {
  const column = random.of(visible(world.table).filter(({ kind }) => kind !== 'json'));
  const allowed = OPERATORS.filter((operator) => operator !== 'like' || column.kind === 'text');
  const operator = random.of(allowed);
  const one = () => operand(random, column, world.sample);
  const field = column.name;
  if (operator === 'like') return { field, operator, value: pattern(random, column, world.sample) };
  if (operator === 'between') return { field, operator, value: [one(), one()] };
  if (operator === 'in' || operator === 'not_in')
    return { field, operator, value: Array.from({ length: random.upTo(4) }, one) };
  return { field, operator, value: one() };
}

const some = (random: Random, list: readonly number[], most: number): number[] =>
  Array.from({ length: random.upTo(most) }, () => random.of(list));

export function randomQuestion(random: Random, world: World): Asked {
  const { table, sample } = world;
  const like = random.of(sample);
  const asked: Asked = {};
  const take = (probability: number) => random.chance(probability);
  const text = (name: string) => (typeof like[name] === 'string' ? (like[name] as string) : 'nobody');
  if (take(0.5)) asked.measure = take(0.05) ? 'no such measure' : text('measure');
  if (take(0.4)) asked.frequency = text(table.frequency);
  if (take(0.4)) asked.practiceUids = some(random, world.practices, 8);
  if (take(0.3)) asked.providerUids = some(random, world.providers, 6);
  const date = () => String(random.of(sample)[table.date] ?? '2024-02-01');
  if (take(0.25)) asked.startDate = date();
  if (take(0.25)) asked.endDate = date();
  if (take(0.5))
    asked.advancedFilters = Array.from({ length: random.upTo(3) }, () => condition(random, world));
  if (take(0.4)) {
    const names = visible(table).map(({ name }) => name);
    const chosen = names.filter(() => random.chance(0.3));
    asked.columns = chosen.length > 0 ? chosen : [random.of(names)];
  }
  if (take(0.6) && world.scopes.length > 0) asked.scope = random.of(world.scopes);
  return asked;
}

const SUMMABLE: readonly Kind[] = ['int', 'bigint', 'numeric'];
const ORDERED: readonly Kind[] = [
  'int',
  'bigint',
  'numeric',
  'float',
  'text',
  'date',
  'timestamp',
  'timestamptz',
];

/**
 * Sums of doubles are left out: they depend on the order of the rows. So are averages of the largest whole numbers: their
 * digits before the point and those that Postgres shows after it are more than an answer holds.
 */
export function randomGroups(random: Random, { table }: World): { groupBy: By[]; metrics: Metric[] } {
  const columns = visible(table).filter(({ kind }) => kind !== 'json');
  const left = columns.filter(({ name }) => name !== 'id');
  const groupBy: By[] = [];
  for (let more = random.upTo(3); more > 0; more -= 1) {
    const [column] = left.splice(random.upTo(left.length - 1), 1) as [Column];
    const timed = ['date', 'timestamp', 'timestamptz'].includes(column.kind);
    groupBy.push(
      timed && random.chance(0.7) ? { column: column.name, unit: random.of(UNITS) } : { column: column.name },
    );
  }
  const metrics = Array.from({ length: 1 + random.upTo(3) }, (_, at): Metric => {
    const as = `m${at}`;
    const of = random.of(['count', 'distinct', 'sum', 'avg', 'min', 'max'] as const);
    if (of === 'count' && random.chance(0.5)) return { function: of, as };
    const kinds =
      of === 'sum' || of === 'avg' ? SUMMABLE : of === 'min' || of === 'max' ? ORDERED : undefined;
    const fitting = columns.filter(
      ({ kind, name }) => (kinds?.includes(kind) ?? true) && !(of === 'avg' && name === 'quantity'),
    );
    return { function: of, column: random.of(fitting).name, as };
  });
  return { groupBy, metrics };
}

/** As the package takes it. */
export function filtersOf(table: Table, asked: Asked): Filters {
  return { datasourceId: table.dataSource, ...asked } as unknown as Filters;
}

/** `exact`: numeric as its text. */
export const numbers = (exact: boolean) => ({ numeric: exact ? ('string' as const) : ('number' as const) });

/** A column in a statement: what the index keeps as text is compared as text. Qualified, a name is never that of a result. */
const expression = (table: Table, { name, kind, sql }: Column): string =>
  `${table.name}.${name}${kind === 'text' && sql.endsWith('[]') ? '::text' : ''}`;

/** A statement under construction. */
class Statement {
  readonly values: unknown[] = [];

  parameter(value: unknown, type: string): string {
    this.values.push(value);
    return `$${this.values.length}::text${type.endsWith('[]') ? '[]' : ''}::${type}`;
  }
}

const TYPES: Readonly<Record<Kind, string>> = {
  int: 'numeric',
  bigint: 'numeric',
  numeric: 'numeric',
  float: 'float8',
  text: 'text',
  bool: 'boolean',
  date: 'date',
  timestamp: 'timestamp',
  timestamptz: 'timestamptz',
  uuid: 'uuid',
  json: 'text',
};
const SIGNS = { eq: '=', neq: '<>', gt: '>', gte: '>=', lt: '<', lte: '<=' } as const;

const written = (kind: Kind, value: Scalar): string | null => {
  if (value === null) return null;
  // Without a zone the wall clock counts, whatever stands behind it.
  return kind === 'timestamp' ? String(value).replace(/Z$/, '') : String(value);
};

function conditionSql(statement: Statement, table: Table, { field, operator, value }: Condition): string {
  const column = table.columns.find(({ name }) => name === field) as Column;
  const left = expression(table, column);
  const type = TYPES[column.kind];
  const one = (scalar: Scalar) => statement.parameter(written(column.kind, scalar), type);
  if (operator === 'in' || operator === 'not_in') {
    const list = (value as readonly Scalar[]).map((scalar) => written(column.kind, scalar));
    const place = statement.parameter(list, `${type}[]`);
    return operator === 'in' ? `${left} = ANY(${place})` : `${left} <> ALL(${place})`;
  }
  if (operator === 'between') {
    const [from, to] = value as readonly [Scalar, Scalar];
    return `${left} BETWEEN ${one(from)} AND ${one(to)}`;
  }
  if (operator === 'like') return `${left} LIKE ${one(value as string)}`;
  return `${left} ${SIGNS[operator]} ${one(value as Scalar)}`;
}

function wheres(statement: Statement, table: Table, asked: Asked): string {
  const parts = ['true'];
  const { measure, frequency, practiceUids, providerUids, startDate, endDate, scope } = asked;
  if (measure !== undefined) parts.push(`measure = ${statement.parameter(measure, 'text')}`);
  if (frequency !== undefined) parts.push(`${table.frequency} = ${statement.parameter(frequency, 'text')}`);
  const among = (column: string, ids: readonly number[]) =>
    parts.push(`${column} = ANY(${statement.parameter(ids.map(String), 'bigint[]')})`);
  if (practiceUids !== undefined) among('practice_uid', practiceUids);
  if (providerUids !== undefined) among('provider_uid', providerUids);
  if (scope?.kind === 'nothing') parts.push('false');
  if (scope?.kind === 'rows') {
    among('practice_uid', scope.practices);
    if (scope.providers !== null) among('provider_uid', scope.providers);
  }
  if (startDate !== undefined) parts.push(`${table.date} >= ${statement.parameter(startDate, 'date')}`);
  if (endDate !== undefined) parts.push(`${table.date} <= ${statement.parameter(endDate, 'date')}`);
  for (const one of asked.advancedFilters ?? []) parts.push(conditionSql(statement, table, one));
  return parts.join(' AND ');
}

const iso = (expression: string) => `to_char(${expression}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`;

/** The text by which values of that kind are compared. */
function shown(kind: Kind, expression: string): string {
  if (kind === 'timestamp') return iso(expression);
  if (kind === 'timestamptz') return iso(`(${expression} AT TIME ZONE 'UTC')`);
  return `(${expression})::text`;
}

export interface Expected {
  readonly text: string;
  readonly values: readonly unknown[];
  /** Names and kinds of the columns of the answer; the statement gives each as a text under its name. */
  readonly columns: readonly { readonly name: string; readonly kind: Kind }[];
}

const quoted = (name: string) => `"${name.replaceAll('"', '""')}"`;

export function rowsSql(table: Table, asked: Asked): Expected {
  const statement = new Statement();
  const columns = visible(table).filter(({ name }) => asked.columns?.includes(name) ?? true);
  const list = columns.map(({ name, kind }) => `${shown(kind, name)} AS ${quoted(name)}`);
  const order = [table.date, 'practice_uid', 'provider_uid', 'measure', table.frequency, 'id'];
  const text = `SELECT ${list.join(', ')} FROM ih.${table.name} WHERE ${wheres(statement, table, asked)} ORDER BY ${order
    .map((name) => `${table.name}.${name}`)
    .join(', ')}`;
  return { text, values: statement.values, columns };
}

const cut = (kind: Kind, expression: string, unit: string): string => {
  if (kind === 'date') return `date_trunc('${unit}', ${expression}::timestamp)::date`;
  return kind === 'timestamptz'
    ? `date_trunc('${unit}', ${expression}, 'UTC')`
    : `date_trunc('${unit}', ${expression})`;
};

function metricKind(of: Metric['function'], kind: Kind | undefined): Kind {
  if (of === 'count' || of === 'distinct' || kind === undefined) return 'bigint';
  if (of === 'sum') return kind === 'int' ? 'bigint' : 'numeric';
  return of === 'avg' ? 'numeric' : kind;
}

export function groupsSql(
  table: Table,
  asked: Asked,
  { groupBy, metrics }: { groupBy: readonly By[]; metrics: readonly Metric[] },
): Expected {
  const statement = new Statement();
  const columnOf = (name: string) => table.columns.find((column) => column.name === name) as Column;
  const keys = groupBy.map(({ column, unit }) => {
    const { kind } = columnOf(column);
    const own = expression(table, columnOf(column));
    return { name: column, kind, sql: unit === undefined ? own : cut(kind, own, unit) };
  });
  const results = metrics.map(({ function: of, column, as }) => {
    const given = column === undefined ? undefined : columnOf(column);
    const operand = given === undefined ? '*' : expression(table, given);
    const call = of === 'distinct' ? `count(DISTINCT ${operand})` : `${of}(${operand})`;
    return { name: as, kind: metricKind(of, given?.kind), sql: call };
  });
  const columns = [...keys, ...results];
  const list = columns.map(({ name, kind, sql }) => `${shown(kind, sql)} AS ${quoted(name)}`);
  const by = keys.map(({ sql }) => sql).join(', ');
  const text = `SELECT ${list.join(', ')} FROM ih.${table.name} WHERE ${wheres(statement, table, asked)}${
    keys.length > 0 ? ` GROUP BY ${by} ORDER BY ${by}` : ''
  }`;
  return { text, values: statement.values, columns };
}
