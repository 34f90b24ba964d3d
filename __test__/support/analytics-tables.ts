/**
 * Tables for the analytics index whose values are hard to keep apart: NULLs, separators, equal looking texts, zero and no
 * provider, numbers beyond doubles. Not a sample of any application: what is rare there is frequent here.
 * Invariant: `id` names a row, and equal numbers look equal, so that the order of an answer and its text are never a choice.
 */
import type { Database } from './database.js';
import { Random } from './rbac-data.js';

/** How a column's values compare and look; what Postgres calls it is in `sql`. */
export type Kind =
  | 'int'
  | 'bigint'
  | 'numeric'
  | 'float'
  | 'text'
  | 'bool'
  | 'date'
  | 'timestamp'
  | 'timestamptz'
  | 'uuid'
  | 'json';

export interface Column {
  readonly name: string;
  readonly kind: Kind;
  readonly sql: string;
  readonly flag?: 'is_time_period' | 'is_date_field' | 'is_measure';
  /** Without a row in `chart_data_source_columns`, or with one that is not active. */
  readonly described?: 'no' | 'inactive';
}

export interface Table {
  readonly dataSource: number;
  /** Of the schema `ih`. */
  readonly name: string;
  readonly columns: readonly Column[];
  /** By the part that they play. */
  readonly frequency: string;
  readonly date: string;
}

/** The columns that an answer has. */
export const visible = (table: Table): Column[] =>
  table.columns.filter(({ described }) => described !== 'inactive');

/** In the order of the table, which is the last part of an answer's order. */
export const HARD: Table = {
  dataSource: 11,
  name: 'hard_values',
  frequency: 'time_period',
  date: 'date_value',
  columns: [
    { name: 'id', kind: 'bigint', sql: 'bigint' },
    { name: 'practice_uid', kind: 'bigint', sql: 'bigint' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'time_period', kind: 'text', sql: 'varchar(40)', flag: 'is_time_period' },
    { name: 'date_value', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'amount', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
    { name: 'quantity', kind: 'bigint', sql: 'bigint' },
    { name: 'small', kind: 'int', sql: 'smallint' },
    { name: 'ratio', kind: 'float', sql: 'double precision' },
    { name: 'flag', kind: 'bool', sql: 'boolean' },
    { name: 'seen_at', kind: 'timestamptz', sql: 'timestamptz' },
    { name: 'made_at', kind: 'timestamp', sql: 'timestamp' },
    { name: 'ref', kind: 'uuid', sql: 'uuid' },
    { name: 'note', kind: 'text', sql: 'text' },
    // Of a type that the index does not know, and not described: kept as the text that Postgres shows.
    { name: 'tags', kind: 'text', sql: 'text[]', described: 'no' },
    { name: 'doc', kind: 'json', sql: 'jsonb' },
    { name: 'hidden', kind: 'text', sql: 'text', described: 'inactive' },
  ],
};

const MEASURES: readonly (string | null)[] = [
  ...['Charges', 'charges', 'Charges ', 'a:b', 'a', 'b:a', 'm:a:b', 'a*b', '*', 'a|b', 'new\nline', '\n', ''],
  ...['\u00e9', 'e\u0301', '\u03a9', '\u4f60\u597d', '\u{1F600}', '\uFF5E', 'back\\slash', '{ds:1}', null],
];
const PERIODS: readonly (string | null)[] = [
  'Monthly',
  'Monthly ',
  'mon:thly',
  'freq:Monthly',
  '*',
  '\n',
  '',
  null,
];
const TEXTS: readonly (string | null)[] = [
  ...[
    '',
    ' ',
    '%',
    '_',
    'a_b',
    'a%b',
    'back\\slash',
    "O'Neil",
    '"q"',
    '{}',
    '[]',
    'null',
    'NULL',
    '\\N',
    '$1',
  ],
  ...[
    'tab\tbed',
    'new\nline',
    '\u{10FFFF}',
    '\uE000',
    '\u2028',
    '\u0001',
    '\u007F',
    '</script>',
    'a:b|c*d',
    null,
  ],
];
/** No two are equal, so that none may be shown as another. Averages of them fit into 38 digits as well, which is what one
 * column of an answer holds from its largest number to its last digit. */
const AMOUNTS: readonly (string | null)[] = [
  ...['0.00', '1.50', '-2.000', '0.1', '0.30', '100', '-1', '1234567890123.123456', '-0.0001'],
  ...['99999999999', '9007199254.740993', '0.5', '2', '3.14159', '-7.25', '0.30000000001', null],
];
const QUANTITIES: readonly (string | null)[] = [
  ...['0', '1', '-1', '9007199254740991', '9007199254740992', '9007199254740993', '-9007199254740993'],
  ...['9223372036854775807', '-9223372036854775808', '42', null],
];
const RATIOS: readonly (string | null)[] = [
  ...[
    '0',
    '0.1',
    '-0.5',
    '1e300',
    '-1e-300',
    'NaN',
    'Infinity',
    '-Infinity',
    '3',
    '0.30000000000000004',
    null,
  ],
];
const MOMENTS: readonly (string | null)[] = [
  ...['2024-01-31 23:59:59.999', '2024-02-01 00:00:00', '2024-02-29 12:00:00.5', '2023-12-31 23:00:00'],
  ...[
    '2024-03-31 01:30:00',
    '1969-12-31 23:59:59.001',
    '2000-01-01 00:00:00',
    '2024-06-30 00:00:00.123',
    null,
  ],
];
const DATES: readonly (string | null)[] = [
  ...['2023-12-31', '2024-01-01', '2024-01-31', '2024-02-29', '2024-03-01', '2024-12-31', '2025-01-01'],
  ...['1999-12-31', '2000-01-01', '1970-01-01', '2023-02-28', '2024-06-15', null],
];
const DOCS: readonly unknown[] = [
  null,
  {},
  [],
  { a: 1, 'b:c': [null, '\n', 1.5] },
  'text',
  { deep: { deeper: { '': '\u{1F600}' } } },
];
const TAGS: readonly (string | null)[] = ['{}', '{a}', '{"a b",NULL}', '{"new\\nline"}', null];
const PRACTICES: readonly (number | null)[] = [
  0,
  1,
  2,
  3,
  7,
  11,
  114,
  1140,
  -5,
  2_147_483_648,
  4_294_967_296,
  null,
];
const PROVIDERS: readonly (number | null)[] = [0, 1, 5, 6, 15, 114, -1, 2_147_483_647, null];

export type Cell = string | number | boolean | null;
export type Row = Readonly<Record<string, Cell>>;

/** Ids that a question may ask for; some are of nobody. */
export const IDS = {
  practices: [...PRACTICES.filter((id) => id !== null), 4, 140],
  providers: [...PROVIDERS.filter((id) => id !== null), 2, 51],
};

/** Rows as Postgres reads them, each cell a text. */
export function hardRows(seed: number, count: number): Row[] {
  const random = new Random(seed, 1);
  return Array.from({ length: count }, (_, index) => ({
    id: index + 1,
    practice_uid: random.of(PRACTICES),
    provider_uid: random.of(PROVIDERS),
    measure: random.of(MEASURES),
    time_period: random.of(PERIODS),
    date_value: random.of(DATES),
    amount: random.of(AMOUNTS),
    quantity: random.of(QUANTITIES),
    small: random.chance(0.1) ? null : random.upTo(20) - 10,
    ratio: random.of(RATIOS),
    flag: random.of([true, false, null]),
    seen_at: random.of(MOMENTS),
    made_at: random.of(MOMENTS),
    ref: random.chance(0.1) ? null : `00112233-4455-6677-8899-aabbccddee0${random.upTo(9)}`,
    note: random.of(TEXTS),
    tags: random.of(TAGS),
    doc: JSON.stringify(random.of(DOCS)),
    hidden: 'hidden-from-everybody',
  }));
}

/** Makes the table and describes it as a data source. */
export async function createTable(db: Database, table: Table): Promise<void> {
  const columns = table.columns.map(({ name, sql }) => `${name} ${sql}`);
  await db.query(`DROP TABLE IF EXISTS ih.${table.name}`);
  await db.query(`CREATE TABLE ih.${table.name} (${columns.join(', ')})`);
  await db.query(
    `INSERT INTO chart_data_sources (data_source_id, data_source_name, table_name, schema_name)
     VALUES ($1, $2, $2, 'ih')`,
    [table.dataSource, table.name],
  );
  for (const column of table.columns) {
    if (column.described === 'no') continue;
    const { flag, name, sql } = column;
    await db.query(
      `INSERT INTO chart_data_source_columns
         (data_source_id, column_name, display_name, data_type, is_active${flag ? `, ${flag}` : ''})
       VALUES ($1, $2, $2, $3, $4${flag ? ', true' : ''})`,
      [table.dataSource, name, sql, column.described !== 'inactive'],
    );
  }
}

/** Through JSON, where a text is read as the type of its column. */
export async function insertRows(db: Database, table: Table, rows: readonly Row[]): Promise<void> {
  const names = table.columns.map(({ name }) => name).join(', ');
  const given = table.columns.map(({ name }) => `${name} text`).join(', ');
  const cast = table.columns.map(({ name, sql }) => `${name}::${sql}`).join(', ');
  for (let at = 0; at < rows.length; at += 5_000) {
    await db.query(
      `INSERT INTO ih.${table.name} (${names}) SELECT ${cast} FROM jsonb_to_recordset($1::jsonb) AS given (${given})`,
      [JSON.stringify(rows.slice(at, at + 5_000))],
    );
  }
}

/** An application's measures in their thousands: many combinations, one measure that is wide. */
export const WIDE: Table = {
  dataSource: 12,
  name: 'wide_measures',
  frequency: 'frequency',
  date: 'date_index',
  columns: [
    { name: 'practice', kind: 'text', sql: 'text' },
    { name: 'practice_uid', kind: 'int', sql: 'integer' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'frequency', kind: 'text', sql: 'text', flag: 'is_time_period' },
    { name: 'date_index', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'measure_value', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
    { name: 'id', kind: 'bigint', sql: 'bigint' },
  ],
};
export const WIDE_MEASURES = [
  'Charges',
  'a:b',
  'a*b',
  'a|b',
  'new\nline',
  'm:x:p:1',
  '\u4f60\u597d',
  'Charges ',
  '',
  '*',
];
export const WIDE_FREQUENCIES = ['Monthly', 'Weekly', 'mon:thly', 'freq:*'];
/** Of the widest one, which has dates in the hundreds. */
export const WIDEST = { measure: 'the widest: *|', frequency: 'Daily' };

export interface Size {
  readonly practices: number;
  /** One more line per practice has no provider. */
  readonly providers: number;
  /** Dates of each line of the widest measure; the others have one or two. */
  readonly days: number;
}

/** Combinations of practice, provider, measure and frequency, and rows of the widest measure. */
export function sizeOf({ practices, providers, days }: Size): { combinations: number; widest: number } {
  const lines = practices * (providers + 1);
  const groups = WIDE_MEASURES.length * WIDE_FREQUENCIES.length;
  return { combinations: lines * (groups + 1), widest: lines * days };
}

export async function fillWide(db: Database, { practices, providers, days }: Size): Promise<void> {
  const lines = `generate_series(0, ${practices - 1}) AS practice_uid CROSS JOIN
    (SELECT nullif(n, -1) AS provider_uid, n FROM generate_series(-1, ${providers - 1}) AS n) AS provider`;
  const insert = (groups: string, id: string, dates: string) => `
    INSERT INTO ih.wide_measures (practice, practice_uid, provider_uid, measure, frequency, date_index, measure_value, id)
    SELECT 'Practice ' || practice_uid, practice_uid, provider_uid, measure, frequency,
           date '2024-01-01' + day, ((practice_uid * 7919 + n * 104729 + day * 31) % 100000) / 100.0, ${id}
    FROM ${lines} CROSS JOIN ${groups} CROSS JOIN ${dates} AS day`;
  await db.query(
    insert(
      `(SELECT measure, frequency, m * 100 + f AS g FROM unnest($1::text[]) WITH ORDINALITY AS a (measure, m)
        CROSS JOIN unnest($2::text[]) WITH ORDINALITY AS b (frequency, f)) AS groups`,
      'row_number() OVER ()',
      `generate_series(0, (practice_uid + n + g)::int % 2 * 31, 31)`,
    ),
    [WIDE_MEASURES, WIDE_FREQUENCIES],
  );
  await db.query(
    insert(
      '(SELECT $1::text AS measure, $2::text AS frequency) AS groups',
      '1000000 + row_number() OVER ()',
      `generate_series(0, ${days - 1})`,
    ),
    [WIDEST.measure, WIDEST.frequency],
  );
  await db.query('CREATE INDEX ON ih.wide_measures (measure, frequency, practice_uid)');
  await db.query('ANALYZE ih.wide_measures');
}
