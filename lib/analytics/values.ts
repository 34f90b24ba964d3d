/**
 * One value of a column as a row has it. Not how many at a time are made. Invariant: a row, a column and the JSON of one
 * answer show the same.
 */

import { BcosCacheError } from '../errors.js';
import { BIGINTS, BOOLEANS, CODES_8, CODES_16, CODES_32, type Codes, type Column, TEXTS } from './layout.js';

/** The furthest that a Date reaches. */
const DATE_MS = 8.64e15;
/** The calendar repeats itself. */
const YEARS_400_MS = 146_097 * 86_400_000;

let lastMs = 0;
let lastText = '1970-01-01T00:00:00.000Z';

/** Unix milliseconds as `Date.toISOString` shows them, further than it does. */
export function timestamp(ms: number): string {
  // Rows lie sorted, so that neighbours are often alike.
  if (ms !== lastMs) {
    lastText = written(ms);
    lastMs = ms;
  }
  return lastText;
}

function written(ms: number): string {
  if (ms > DATE_MS) {
    if (ms === Number.POSITIVE_INFINITY) return 'infinity';
    // Six digits of a year with a sign, then all else.
    const text = written(ms - 100 * YEARS_400_MS);
    return `+${Number(text.slice(0, 7)) + 40_000}${text.slice(7)}`;
  }
  if (ms < -DATE_MS) return '-infinity';
  return new Date(ms).toISOString();
}

/** A number, or digits when there is none that is told from its neighbours. */
export function whole(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value.toString();
}

export function hasCodes(column: Column): boolean {
  return column.encoding === CODES_8 || column.encoding === CODES_16 || column.encoding === CODES_32;
}

/** Texts, or what their JSON says: made once, and frozen because rows share it. NULL comes after all others. */
export function valuesOfCodes(column: Column): readonly unknown[] {
  const values: unknown[] = column.type === 'json' ? column.texts.map(parsed) : [...column.texts];
  values.push(null);
  return values;
}

function parsed(text: string): unknown {
  try {
    return frozen(JSON.parse(text));
  } catch (cause) {
    throw new BcosCacheError('E_INTERNAL', 'a json column holds no JSON', { cause });
  }
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const inner of Object.values(value)) frozen(inner);
    Object.freeze(value);
  }
  return value;
}

/** The value of a row, a column at a time. */
export function reader(column: Column): (row: number) => unknown {
  const read = readerOfValues(column);
  return column.nulls === null ? read : (row) => (column.isNull(row) ? null : read(row));
}

function readerOfValues(column: Column): (row: number) => unknown {
  if (column.encoding === TEXTS) {
    const { texts } = column;
    return (row) => texts[row];
  }
  if (hasCodes(column)) {
    const codes = column.values as Codes;
    let values: readonly unknown[] | undefined;
    return (row) => {
      values ??= valuesOfCodes(column);
      return values[codes[row] as number];
    };
  }
  if (column.encoding === BIGINTS) {
    const values = column.values as BigInt64Array;
    return (row) => whole(values[row] as bigint);
  }
  const values = column.values as Float64Array;
  if (column.encoding === BOOLEANS) return (row) => values[row] === 1;
  if (isTimestamp(column)) return (row) => timestamp(values[row] as number);
  return (row) => values[row];
}

export function isTimestamp(column: Column): boolean {
  return column.type === 'timestamp' || column.type === 'timestamptz';
}
