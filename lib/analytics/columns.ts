/**
 * Columns of an answer as users see them: typed arrays over its bytes, texts as codes into a dictionary, NULLs as bits. Not
 * rows: see `rows.ts`. Invariant: `at` of a row is what the row itself would show.
 */

import type * as Public from '../../index.js';
import { BIGINTS, BOOLEANS, type Codes, type Column, readAnswer, TEXTS } from './layout.js';
import { hasCodes, reader } from './values.js';

export function columnsOf(bytes: Uint8Array): Public.AnalyticsColumns {
  const answer = readAnswer(bytes);
  const names = JSON.parse(answer.shape) as string[];
  // Without a prototype, so that a column may have any name.
  const columns = Object.create(null) as Record<string, Public.AnalyticsColumn>;
  for (const [at, name] of names.entries()) columns[name] = columnOf(answer.columns[at] as Column);
  return Object.freeze({
    rowCount: answer.rows,
    names: Object.freeze(names),
    columns: Object.freeze(columns),
    cacheHit: answer.layer !== 'source',
    layer: answer.layer,
    generation: answer.generation,
    queryTimeMs: answer.micros / 1_000,
    ...(answer.reason === null ? undefined : { reason: answer.reason }),
  });
}

function columnOf(column: Column): Public.AnalyticsColumn {
  return (hasCodes(column) ? new Coded(column) : new Plain(column)) as unknown as Public.AnalyticsColumn;
}

class Base {
  readonly type: Public.AnalyticsColumn['type'];
  readonly nulls: Uint8Array | null;
  readonly #rows: number;
  readonly #read: (row: number) => unknown;

  constructor(column: Column) {
    this.type = column.type;
    this.nulls = column.nulls;
    this.#rows = column.rows;
    this.#read = reader(column);
  }

  at(row: number): unknown {
    return Number.isInteger(row) && row >= 0 && row < this.#rows ? this.#read(row) : undefined;
  }
}

class Coded extends Base {
  readonly kind = 'codes';
  readonly codes: Codes;
  readonly #column: Column;

  constructor(column: Column) {
    super(column);
    this.codes = column.values as Codes;
    this.#column = column;
  }

  /** Made when it is asked for: whoever groups by codes only needs it for the groups. */
  get dictionary(): readonly string[] {
    return this.#column.texts;
  }
}

class Plain extends Base {
  readonly kind: 'numbers' | 'bigints' | 'booleans' | 'texts';
  readonly #column: Column;

  constructor(column: Column) {
    super(column);
    this.kind = kindOf(column);
    this.#column = column;
  }

  get values(): unknown {
    return this.#column.values ?? this.#column.texts;
  }
}

function kindOf(column: Column): Plain['kind'] {
  switch (column.encoding) {
    case TEXTS:
      return 'texts';
    case BIGINTS:
      return 'bigints';
    case BOOLEANS:
      return 'booleans';
    default:
      return 'numbers';
  }
}
