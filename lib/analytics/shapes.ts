/**
 * Loops that make objects, one per set of columns: a literal with all its properties is made by the engine in one step and
 * gives all rows one hidden class, which no loop over names does. Not what a value is.
 * Invariant: a name of a column gets into the text of a function as a string literal and in no other way.
 */

import { type Answer, BIGINTS, BOOLEANS, type Column, TEXTS } from './layout.js';
import type { Row } from './rows.js';
import { hasCodes, isTimestamp, reader, timestamp, valuesOfCodes, whole } from './values.js';

/** What a loop is given of one column. */
interface Prepared {
  readonly values: ArrayLike<unknown>;
  /** What codes stand for. */
  readonly of: readonly unknown[] | null;
  readonly nulls: Uint8Array | null;
}

type Loop = (
  rows: number,
  columns: readonly Prepared[],
  timestamp: (ms: number) => string,
  whole: (value: bigint) => number | string,
) => Row[];

interface Shape {
  readonly names: readonly string[];
  /** Rows made so far without a loop of its own. */
  rows: number;
  /** `null`: this process does not allow text to become code. */
  loop: Loop | null | undefined;
}

/** Names of results are the caller's, so that there is no end of them. */
const SHAPES = 256;
/** Rows from which on making a loop is cheaper than not having one. */
const WORTH_IT = 100;

const SHAPES_SEEN = new Map<string, Shape>();

export function makeRows(answer: Answer): Row[] {
  const shape = shapeOf(answer);
  if (shape.loop === undefined) {
    shape.rows += answer.rows;
    if (shape.rows >= WORTH_IT) shape.loop = compiled(shape.names, answer.columns);
  }
  if (shape.loop == null) return plainly(shape.names, answer);
  return shape.loop(answer.rows, answer.columns.map(prepared), timestamp, whole);
}

/** How many are known, for tests. */
export function shapesKept(): number {
  return SHAPES_SEEN.size;
}

function shapeOf(answer: Answer): Shape {
  let key = answer.shape;
  for (const column of answer.columns) key += how(column) + (isNullable(column) ? '?' : '');
  let shape = SHAPES_SEEN.get(key);
  if (shape === undefined) {
    shape = { names: JSON.parse(answer.shape) as string[], rows: 0, loop: undefined };
    SHAPES_SEEN.set(key, shape);
    for (const oldest of SHAPES_SEEN.keys()) {
      if (SHAPES_SEEN.size <= SHAPES) break;
      SHAPES_SEEN.delete(oldest);
    }
  }
  return shape;
}

/** How the value of a row is made of what is prepared. */
function how(column: Column): 'codes' | 'texts' | 'bigints' | 'booleans' | 'timestamps' | 'numbers' {
  if (hasCodes(column)) return 'codes';
  switch (column.encoding) {
    case TEXTS:
      return 'texts';
    case BIGINTS:
      return 'bigints';
    case BOOLEANS:
      return 'booleans';
    default:
      return isTimestamp(column) ? 'timestamps' : 'numbers';
  }
}

/** Codes and texts have a place for NULL. */
function isNullable(column: Column): boolean {
  return column.nulls !== null && column.encoding !== TEXTS && !hasCodes(column);
}

function prepared(column: Column): Prepared {
  if (column.values !== null) {
    return {
      values: column.values,
      of: hasCodes(column) ? valuesOfCodes(column) : null,
      nulls: column.nulls,
    };
  }
  const { texts } = column;
  const values = column.nulls === null ? texts : texts.map((text, row) => (column.isNull(row) ? null : text));
  return { values, of: null, nulls: null };
}

/** A loop for these columns, or `null` where no code may be made of text. */
function compiled(names: readonly string[], columns: readonly Column[]): Loop | null {
  const fields = columns.map((column, at) => `${property(names[at] as string)}:${expression(column, at)}`);
  const locals = columns.map((_, at) => `const {values:v${at},of:o${at},nulls:n${at}}=c[${at}];`);
  const body = `"use strict";${locals.join('')}
const out=new Array(rows);
for(let i=0;i<rows;i++)out[i]={${fields.join(',')}};
return out;`;
  try {
    return new Function('rows', 'c', 'timestamp', 'whole', body) as Loop;
  } catch (error) {
    if (error instanceof EvalError) return null;
    throw error;
  }
}

/** In a literal this one name would set the prototype. */
function property(name: string): string {
  return name === '__proto__' ? '["__proto__"]' : JSON.stringify(name);
}

function expression(column: Column, at: number): string {
  const value = {
    codes: `o${at}[v${at}[i]]`,
    texts: `v${at}[i]`,
    bigints: `whole(v${at}[i])`,
    booleans: `v${at}[i]===1`,
    timestamps: `timestamp(v${at}[i])`,
    numbers: `v${at}[i]`,
  }[how(column)];
  return isNullable(column) ? `(n${at}[i>>3]>>(i&7)&1)===1?null:${value}` : value;
}

/** The same without a loop of its own. */
function plainly(names: readonly string[], answer: Answer): Row[] {
  const readers = answer.columns.map(reader);
  const rows: Row[] = [];
  for (let at = 0; at < answer.rows; at++) {
    const row: Row = {};
    for (const [column, read] of readers.entries()) {
      const name = names[column] as string;
      const value = read(at);
      if (name === '__proto__') {
        Object.defineProperty(row, name, { value, enumerable: true, writable: true, configurable: true });
      } else {
        row[name] = value;
      }
    }
    rows.push(row);
  }
  return rows;
}
