/**
 * Answers of the analytics index as bytes, written after the page of their layout (the head of
 * `crates/core/src/analytics/answer/columns.rs`) and sharing no code with what reads them; and what a row shows of each value.
 */
import type { Random } from './rbac-data.js';

export interface ColumnCase {
  readonly name: string;
  readonly type: string;
  /** As the layout has it. */
  readonly encoding: number;
  /** By row; what a NULL is encoded as. */
  readonly nulls: readonly boolean[];
  /** By row: what is encoded, and what a row shows. */
  readonly values: readonly { readonly encoded: number | bigint | string; readonly shown: unknown }[];
}

export interface AnswerCase {
  readonly rows: number;
  readonly columns: readonly ColumnCase[];
  readonly layer?: number;
  readonly generation?: number;
  readonly micros?: number;
  readonly reason?: string;
}

const TYPES = [
  '',
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
];

/** Pieces, each at a multiple of 8 from the beginning. */
class Pieces {
  #bytes = Buffer.alloc(0);

  put(piece: Buffer): number {
    const place = this.#bytes.length / 8;
    const padding = Buffer.alloc((8 - (piece.length % 8)) % 8);
    this.#bytes = Buffer.concat([this.#bytes, piece, padding]);
    return place;
  }

  get bytes(): Buffer {
    return this.#bytes;
  }
}

const u32 = (...numbers: readonly number[]) => {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [at, number] of numbers.entries()) bytes.writeUInt32LE(number, 4 * at);
  return bytes;
};
const f64 = (number: number) => {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(number);
  return bytes;
};

export function encodeAnswer(answer: AnswerCase): Buffer {
  const { rows, columns, layer = 0, generation = 1, micros = 0, reason = '' } = answer;
  const names = Buffer.from(JSON.stringify(columns.map((column) => column.name)));
  const head = Buffer.concat([
    Buffer.from('BCA1'),
    u32(rows, columns.length),
    Buffer.from([layer, 0, reason.length & 0xff, reason.length >> 8]),
    f64(generation),
    f64(micros),
    u32(names.length, 0),
  ]);
  const before = head.length + 32 * columns.length + names.length + reason.length;
  const first = Math.ceil(before / 8);
  const pieces = new Pieces();
  const described = columns.map((column) => encodeColumn(column, pieces, first));
  const top = Buffer.concat([head, ...described, names, Buffer.from(reason, 'latin1')]);
  return Buffer.concat([top, Buffer.alloc(8 * first - top.length), pieces.bytes]);
}

export function encodeBatch(answers: readonly Buffer[]): Buffer {
  const places: number[] = [];
  let place = 1 + answers.length;
  for (const answer of answers) {
    places.push(place, answer.length / 8);
    place += answer.length / 8;
  }
  return Buffer.concat([Buffer.from('BCB1'), u32(answers.length, ...places), ...answers]);
}

function encodeColumn(column: ColumnCase, pieces: Pieces, first: number): Buffer {
  const { encoding, nulls, values } = column;
  const anyNull = nulls.includes(true);
  const place = (piece: Buffer) => first + pieces.put(piece);
  const bits = Buffer.alloc(Math.ceil(nulls.length / 8));
  for (const [row, is] of nulls.entries())
    if (is) bits[row >> 3] = (bits[row >> 3] as number) | (1 << (row & 7));
  const nullsAt = anyNull ? place(bits) : 0;
  let [valuesAt, entries, endsAt, textsAt, ascii] = [0, 0, 0, 0, false];
  let texts = '';
  const putTexts = (all: readonly string[]) => {
    texts = all.join('');
    let end = 0;
    const ends = all.map((text) => {
      end += text.length;
      return end;
    });
    ascii = Buffer.byteLength(texts) === texts.length;
    [textsAt, endsAt, entries] = [place(Buffer.from(texts)), place(u32(...ends)), all.length];
  };
  if (encoding === 8) {
    putTexts(values.map((value, row) => (nulls[row] === true ? '' : String(value.encoded))));
  } else if (encoding >= 5) {
    const used = values.filter((_, row) => nulls[row] !== true).map((value) => String(value.encoded));
    const dictionary = [...new Set(used)].sort();
    putTexts(dictionary);
    const width = 1 << (encoding - 5);
    const codes = Buffer.alloc(width * values.length);
    for (const [row, value] of values.entries()) {
      const code = nulls[row] === true ? dictionary.length : dictionary.indexOf(String(value.encoded));
      codes.writeUIntLE(code, width * row, width);
    }
    valuesAt = place(codes);
  } else {
    valuesAt = place(Buffer.concat(values.map(({ encoded }) => plain(encoding, encoded))));
  }
  const flags = Number(anyNull) | (Number(ascii) << 1);
  const head = Buffer.from([TYPES.indexOf(column.type), encoding, flags, 0]);
  return Buffer.concat([head, u32(nullsAt, valuesAt, entries, endsAt, textsAt, Buffer.byteLength(texts), 0)]);
}

function plain(encoding: number, value: number | bigint | string): Buffer {
  const bytes = Buffer.alloc(encoding === 1 ? 1 : encoding === 2 ? 4 : 8);
  if (encoding === 1) bytes.writeUInt8(Number(value));
  else if (encoding === 2) bytes.writeInt32LE(Number(value));
  else if (encoding === 3) bytes.writeDoubleLE(Number(value));
  else bytes.writeBigInt64LE(BigInt(value));
  return bytes;
}

const TEXTS = [
  '',
  'a',
  'Zürich',
  '日本 😀',
  'a\nb',
  '"',
  '\\',
  '\u2028',
  'x'.repeat(40),
  'e\u0301',
  '__proto__',
];
const JSONS = ['{"a":[1,null]}', '[]', 'null', '"é"', '1.5', '{"__proto__":1}', '[[[]]]'];
/** Names that a careless loop would trip over. */
const NAMES = [
  'measure_value',
  '__proto__',
  'constructor',
  'toString',
  '0',
  '',
  'a b',
  '"',
  "'",
  '\\',
  '`$1`',
  '];throw 1;//',
  '\n',
  '\u2028',
  '日本',
  'rows',
  'v0',
];

/** A random answer: any columns, any NULLs, names of all kinds. */
export function randomAnswer(random: Random, mostRows: number): AnswerCase {
  const rows = random.upTo(mostRows);
  const names = new Set<string>();
  const width = random.upTo(9);
  while (names.size < width) names.add(random.of(NAMES));
  const columns = [...names].map((name) => randomColumn(random, name, rows));
  return { rows, columns, generation: random.bits(), micros: random.bits(), layer: random.upTo(2) };
}

function randomColumn(random: Random, name: string, rows: number): ColumnCase {
  const [type, encoding, value] = random.of(KINDS);
  const nullable = random.of([0, 0, 0.3, 1]);
  const nulls = Array.from({ length: rows }, () => random.chance(nullable));
  const values = Array.from({ length: rows }, () => value(random));
  return { name, type, encoding, nulls, values };
}

type MakeValue = (random: Random) => ColumnCase['values'][number];
const same = <T extends number | bigint | string>(encoded: T) => ({ encoded, shown: encoded });
const date = (random: Random) => same(new Date(random.bits() * 1_000).toISOString().slice(0, 10));
const moment = (random: Random) => {
  if (random.chance(0.2)) return { encoded: Number.POSITIVE_INFINITY, shown: 'infinity' };
  if (random.chance(0.2)) return { encoded: Number.NEGATIVE_INFINITY, shown: '-infinity' };
  const ms = (random.bits() - 2 ** 31) * random.of([1, 1_000, 4_000_000]) + random.upTo(999);
  return { encoded: ms, shown: new Date(ms).toISOString() };
};
const text = (random: Random) => same(random.of(TEXTS));
const json = (random: Random) => {
  const encoded = random.of(JSONS);
  return { encoded, shown: JSON.parse(encoded) };
};

const KINDS: readonly (readonly [type: string, encoding: number, value: MakeValue])[] = [
  [
    'bool',
    1,
    (random) => {
      const is = random.chance(0.5);
      return { encoded: Number(is), shown: is };
    },
  ],
  ['int', 2, (random) => same(random.bits() | 0)],
  ['bigint', 3, (random) => same(random.bits() * 1_000)],
  ['float', 3, (random) => same(random.of([0, -0, 0.1, Number.NaN, Number.POSITIVE_INFINITY, 5e-324]))],
  ['numeric', 3, (random) => same(random.bits() / 100)],
  [
    'bigint',
    4,
    (random) => {
      const encoded = BigInt.asIntN(64, BigInt(random.bits()) << BigInt(random.upTo(40)));
      const fits = encoded <= BigInt(Number.MAX_SAFE_INTEGER) && encoded >= -BigInt(Number.MAX_SAFE_INTEGER);
      return { encoded, shown: fits ? Number(encoded) : String(encoded) };
    },
  ],
  ['timestamp', 3, moment],
  ['timestamptz', 3, moment],
  ['text', 5, text],
  ['text', 6, text],
  ['uuid', 7, (random) => same(random.uuid())],
  ['date', 5, date],
  ['date', 6, date],
  ['json', 5, json],
  ['json', 7, json],
  ['numeric', 8, (random) => same((random.bits() / 100).toFixed(random.upTo(20)))],
];

/** What the rows of an answer show. */
export function shownRows({ rows, columns }: AnswerCase): Record<string, unknown>[] {
  return Array.from({ length: rows }, (_, row) =>
    Object.fromEntries(
      columns.map((column) => [column.name, column.nulls[row] === true ? null : column.values[row]?.shown]),
    ),
  );
}
