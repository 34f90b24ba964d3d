/**
 * Judges answers of the analytics index, in every form, against the texts that Postgres gives. Not the questions.
 * Invariant: a value is right only if its JavaScript type is: a number where it is exact, a text beyond, a boolean, a parsed
 * document; never what merely looks the same.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Cache, Expected } from './analytics-questions.js';
import type { Kind } from './analytics-tables.js';

export type Texts = Readonly<Record<string, string | null>>;
export type Form = 'rows' | 'columns' | 'json';

/** How numeric was asked for, and whether the answer went through JSON, which has no NaN. */
export interface How {
  readonly form: Form;
  readonly exact: boolean;
}

type Read = (text: string, how: How) => unknown;
const READ: Readonly<Record<Kind, Read>> = {
  int: (text) => Number(text),
  bigint: (text) => (Number.isSafeInteger(Number(text)) ? Number(text) : text),
  numeric: (text, { exact }) => (exact ? text : Number(text)),
  float: (text, { form }) => {
    const number = Number(text);
    return form === 'json' && !Number.isFinite(number) ? null : number;
  },
  text: (text) => text,
  bool: (text) => text === 'true',
  date: (text) => text,
  timestamp: (text) => text,
  timestamptz: (text) => text,
  uuid: (text) => text,
  json: (text) => JSON.parse(text) as unknown,
};

/** The values that an answer must hold, from the texts of Postgres. */
export function valuesOf(
  { columns }: Expected,
  texts: readonly Texts[],
  how: How,
): Record<string, unknown>[] {
  return texts.map((row) => {
    const entries = columns.map(({ name, kind }): [string, unknown] => {
      const text = row[name] ?? null;
      return [name, text === null ? null : READ[kind](text, how)];
    });
    return Object.fromEntries(entries);
  });
}

type Columns = Awaited<ReturnType<Cache['queryColumns']>>;

/** Rows out of columns, value by value. */
export function rowsOfColumns({ names, columns, rowCount }: Columns): Record<string, unknown>[] {
  return Array.from({ length: rowCount }, (_, row) =>
    Object.fromEntries(names.map((name) => [name, columns[name]?.at(row)])),
  );
}

/** The first place where two lists of rows part, with what is there; undefined when they are equal. */
export function parting(
  given: readonly Readonly<Record<string, unknown>>[],
  expected: readonly Readonly<Record<string, unknown>>[],
): string | undefined {
  if (given.length !== expected.length) return `${given.length} rows instead of ${expected.length}`;
  for (const [index, right] of expected.entries()) {
    const row = given[index] as Readonly<Record<string, unknown>>;
    if (isDeepStrictEqual({ ...row }, right)) continue;
    const names = [...new Set([...Object.keys(row), ...Object.keys(right)])];
    const at = names.find((name) => !(name in row) || !isDeepStrictEqual(row[name], right[name]));
    if (at === undefined) continue;
    const show = (value: unknown) => `${JSON.stringify(value)} (${typeof value})`;
    return `row ${index}, ${at}: ${show(row[at])} instead of ${show(right[at])}`;
  }
  return undefined;
}
