/**
 * An answer of the native side as columns over its bytes: the layout of `crates/core/src/analytics/answer/columns.rs`,
 * whose page says what stands where. Not what users see of it. Invariant: nothing is copied but texts, and those when
 * they are asked for.
 */

import type { AnalyticsFallbackReason } from '../../index.js';
import { BcosCacheError } from '../errors.js';

/** `BCA1` and `BCB1`, little-endian as everything in it. */
const ANSWER = 0x31414342;
const BATCH = 0x31424342;
const HEAD = 40;
const DESCRIPTOR = 32;

const LAYERS = ['near', 'store', 'source'] as const;
/** By the byte of the type. */
const TYPES = [
  undefined,
  'int',
  'bigint',
  'float',
  'numeric',
  'text',
  'bool',
  'date',
  'timestamp',
  'timestamptz',
  'uuid',
  'json',
] as const;

export type Type = Exclude<(typeof TYPES)[number], undefined>;

/** What the values of a column are; see the page of the layout. */
export const BOOLEANS = 1;
export const INTS = 2;
export const DOUBLES = 3;
export const BIGINTS = 4;
export const CODES_8 = 5;
export const CODES_16 = 6;
export const CODES_32 = 7;
export const TEXTS = 8;

export type Codes = Uint8Array | Uint16Array | Uint32Array;
export type Values = Codes | Int32Array | Float64Array | BigInt64Array;

export interface Answer {
  readonly rows: number;
  readonly layer: (typeof LAYERS)[number];
  /** 0 = the source itself. */
  readonly generation: number;
  readonly micros: number;
  /** Why the source was asked. */
  readonly reason: AnalyticsFallbackReason | null;
  /** The names as JSON: what tells one set of columns from another. */
  readonly shape: string;
  readonly columns: readonly Column[];
}

export class Column {
  /** Texts between `#from` and `#to`, `ends` in UTF-16 units of all of them. */
  #texts: readonly string[] | undefined;

  constructor(
    readonly type: Type,
    readonly encoding: number,
    readonly rows: number,
    /** One bit per row. */
    readonly nulls: Uint8Array | null,
    /** None where `encoding` is `TEXTS`. */
    readonly values: Values | null,
    readonly ends: Uint32Array,
    readonly bytes: Buffer,
    readonly ascii: boolean,
  ) {}

  isNull(row: number): boolean {
    return this.nulls !== null && (((this.nulls[row >> 3] as number) >> (row & 7)) & 1) === 1;
  }

  /** The texts that codes are places among, or those of the rows. */
  get texts(): readonly string[] {
    this.#texts ??= Object.freeze(this.#cut());
    return this.#texts;
  }

  #cut(): string[] {
    // One text of all, cut by units: decoding each by itself takes several times as long.
    const all = this.bytes.toString(this.ascii ? 'latin1' : 'utf8');
    const texts: string[] = [];
    let from = 0;
    for (const end of this.ends) {
      texts.push(all.slice(from, end));
      from = end;
    }
    return texts;
  }
}

/** Reads one answer. */
export function readAnswer(given: Uint8Array): Answer {
  const bytes = aligned(given);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < HEAD || view.getUint32(0, true) !== ANSWER) throw foreign();
  const rows = view.getUint32(4, true);
  const count = view.getUint32(8, true);
  const names = HEAD + DESCRIPTOR * count;
  const reason = names + view.getUint32(32, true);
  const shape = bytes.toString('utf8', names, reason);
  const columns: Column[] = [];
  for (let at = 0; at < count; at++) columns.push(readColumn(bytes, view, HEAD + DESCRIPTOR * at, rows));
  return {
    rows,
    layer: LAYERS[view.getUint8(12)] ?? fail(),
    generation: view.getFloat64(16, true),
    micros: view.getFloat64(24, true),
    reason: reasonOf(bytes.toString('latin1', reason, reason + view.getUint16(14, true))),
    shape,
    columns,
  };
}

/** Reads the answers of a batch; one that is none counts as one of one. */
export function readAnswers(given: Uint8Array): Answer[] {
  const bytes = aligned(given);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 8 || view.getUint32(0, true) !== BATCH) return [readAnswer(bytes)];
  const answers: Answer[] = [];
  const count = view.getUint32(4, true);
  for (let at = 0; at < count; at++) {
    const from = 8 * view.getUint32(8 + 8 * at, true);
    answers.push(readAnswer(bytes.subarray(from, from + 8 * view.getUint32(12 + 8 * at, true))));
  }
  return answers;
}

/** The words of the native side are those of the surface. */
function reasonOf(text: string): AnalyticsFallbackReason | null {
  return text === '' ? null : (text as AnalyticsFallbackReason);
}

function readColumn(bytes: Buffer, view: DataView, at: number, rows: number): Column {
  const encoding = view.getUint8(at + 1);
  const flags = view.getUint8(at + 2);
  const place = (field: number) => bytes.byteOffset + 8 * view.getUint32(at + 4 * field, true);
  const entries = view.getUint32(at + 12, true);
  const from = 8 * view.getUint32(at + 20, true);
  const nulls = (flags & 1) === 0 ? null : new Uint8Array(bytes.buffer, place(1), (rows + 7) >> 3);
  const ends = new Uint32Array(bytes.buffer, place(4), entries);
  const texts = bytes.subarray(from, from + view.getUint32(at + 24, true));
  const type = TYPES[view.getUint8(at)] ?? fail();
  const values = encoding === TEXTS ? null : valuesOf(encoding, bytes.buffer, place(2), rows);
  return new Column(type, encoding, rows, nulls, values, ends, texts, (flags & 2) !== 0);
}

function valuesOf(encoding: number, buffer: ArrayBufferLike, at: number, rows: number): Values {
  switch (encoding) {
    case BOOLEANS:
    case CODES_8:
      return new Uint8Array(buffer, at, rows);
    case INTS:
      return new Int32Array(buffer, at, rows);
    case DOUBLES:
      return new Float64Array(buffer, at, rows);
    case BIGINTS:
      return new BigInt64Array(buffer, at, rows);
    case CODES_16:
      return new Uint16Array(buffer, at, rows);
    case CODES_32:
      return new Uint32Array(buffer, at, rows);
    default:
      return fail();
  }
}

/** Typed arrays begin at multiples of their size; small buffers of Node may lie anywhere. */
function aligned(given: Uint8Array): Buffer {
  const bytes = given.byteOffset % 8 === 0 ? given : new Uint8Array(given);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

function fail(): never {
  throw foreign();
}

function foreign(): BcosCacheError {
  return new BcosCacheError(
    'E_INTERNAL',
    'an answer of the native side is not in the layout of this version',
  );
}
