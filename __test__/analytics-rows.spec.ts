/**
 * Rows and columns made of the bytes of an answer: of thousands of random ones, and of files that the native side has written
 * (`crates/core/src/analytics/answer/tests.rs` writes them, and fails when it would write others). `BCOS_SEED` chooses another
 * series. Not what an answer holds.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { columnsOf } from '../lib/analytics/columns.js';
import { answersOf, factsOf, rowsOf } from '../lib/analytics/rows.js';
import { shapesKept } from '../lib/analytics/shapes.js';
import { timestamp } from '../lib/analytics/values.js';
import { encodeAnswer, encodeBatch, randomAnswer, shownRows } from './support/answers.js';
import { Random } from './support/rbac-data.js';
import { rounds } from './support/rounds.js';

const SEED = Number(process.env['BCOS_SEED'] ?? 20_266);
const golden = (name: string) => readFileSync(join(__dirname, 'analytics', name));

/** The same rows, by names in their order: `toEqual` knows neither the order nor `__proto__`. */
function expectRows(made: readonly object[], expected: readonly object[], about: string) {
  expect(made.length, about).toBe(expected.length);
  for (const [at, row] of made.entries()) {
    const other = expected[at] as object;
    expect(Object.getPrototypeOf(row), about).toBe(Object.prototype);
    expect(Object.keys(row), about).toEqual(Object.keys(other));
    for (const name of Object.keys(row)) {
      const [value, wanted] = [own(row, name), own(other, name)];
      if (typeof wanted === 'object' && wanted !== null) expect(value, about).toEqual(wanted);
      else expect(value, `${about}, row ${at}, ${name}`).toBe(wanted);
    }
  }
}

const own = (row: object, name: string) => Object.getOwnPropertyDescriptor(row, name)?.value as unknown;

describe('rows', () => {
  it('are what was encoded, whatever the columns are called and hold', () => {
    const all = rounds(4_000, 800);
    for (let round = 0; round < all; round += 1) {
      const answer = randomAnswer(new Random(SEED, round), round % 10 === 0 ? 150 : 12);
      expectRows(rowsOf(encodeAnswer(answer)), shownRows(answer), `series ${SEED}, round ${round}`);
    }
  });

  it('are the same with and without a loop of their own, and keep one shape', () => {
    for (let round = 0; round < rounds(300, 60); round += 1) {
      const answer = randomAnswer(new Random(SEED + 1, round), 40);
      const bytes = encodeAnswer(answer);
      // The loop is made on the way: before it, at it, after it.
      for (let again = 0; again < 6; again += 1) {
        expectRows(rowsOf(bytes), shownRows(answer), `series ${SEED + 1}, round ${round}`);
      }
    }
  });

  it('are made where text must not become code', () => {
    const bytes = encodeAnswer(randomAnswer(new Random(SEED + 2, 7), 300));
    const script = `
      const { rowsOf } = require(${JSON.stringify(join(__dirname, '..', 'dist', 'analytics', 'rows.js'))});
      const bytes = require('node:fs').readFileSync(0);
      process.stdout.write(JSON.stringify([rowsOf(bytes), rowsOf(bytes)]));
      try { new Function('return 1')(); process.exitCode = 1; } catch {}`;
    const run = ['--disallow-code-generation-from-strings', '-e', script];
    const made = JSON.parse(execFileSync(process.execPath, run, { input: bytes }).toString()) as unknown[];
    expect(made).toEqual([0, 1].map(() => JSON.parse(JSON.stringify(rowsOf(bytes)))));
  });

  it('are found wherever the bytes begin', () => {
    const answer = randomAnswer(new Random(SEED + 3, 1), 60);
    const bytes = encodeAnswer(answer);
    for (let offset = 0; offset < 9; offset += 1) {
      const shifted = new Uint8Array(bytes.length + offset);
      shifted.set(bytes, offset);
      expectRows(rowsOf(shifted.subarray(offset)), shownRows(answer), `${offset}`);
    }
  });

  it('of many shapes, which nobody can make the process keep', () => {
    const numbers = Array.from({ length: 100 }, (_, at) => ({ encoded: at, shown: at }));
    const nulls = numbers.map(() => false);
    for (let at = 0; at < 1_000; at += 1) {
      const answer = {
        rows: 100,
        columns: [{ name: `m${at}`, type: 'int', encoding: 2, nulls, values: numbers }],
      };
      expect(rowsOf(encodeAnswer(answer))).toEqual(shownRows(answer));
    }
    expect(shapesKept()).toBe(256);
  });

  it('share the json values that are alike, which nobody may change', () => {
    const cells = ['{"a":{"b":1}}', '{"a":{"b":1}}', '[1]'];
    const values = cells.map((encoded) => ({ encoded, shown: JSON.parse(encoded) }));
    const column = { name: 'm', type: 'json', encoding: 5, nulls: [false, false, false], values };
    const [first, second, third] = rowsOf(encodeAnswer({ rows: 3, columns: [column] })) as { m: object }[];
    expect(first?.m).toBe(second?.m);
    const inner = Object.values(first?.m ?? {});
    expect([inner.length, ...[first?.m, ...inner].map(Object.isFrozen)]).toEqual([1, true, true]);
    expect(Object.isFrozen(third?.m)).toBe(true);
    expect(Object.isFrozen(first), 'a row is the caller’s').toBe(false);
  });

  it('refuse bytes of another layout', () => {
    const error = expect.objectContaining({ code: 'E_INTERNAL' });
    for (const bytes of [
      Buffer.alloc(0),
      Buffer.from('[]'),
      Buffer.alloc(64),
      Buffer.from('BCA2'.padEnd(64)),
    ]) {
      expect(() => rowsOf(bytes)).toThrow(error);
      expect(() => answersOf(bytes)).toThrow(error);
      expect(() => columnsOf(bytes)).toThrow(error);
    }
    const json = {
      name: 'm',
      type: 'json',
      encoding: 5,
      nulls: [false],
      values: [{ encoded: '{', shown: 0 }],
    };
    expect(() => rowsOf(encodeAnswer({ rows: 1, columns: [json] }))).toThrow(error);
  });
});

describe('timestamps', () => {
  it('are those of Date, and go on where it ends', () => {
    for (const ms of [0, -1, 8.64e15, -8.64e15, 253_402_300_800_000, -62_198_755_200_000]) {
      expect(timestamp(ms)).toBe(new Date(ms).toISOString());
    }
    expect(timestamp(Number.MAX_SAFE_INTEGER)).toBe('+287396-10-12T08:59:00.991Z');
    expect(timestamp(8.64e15 + 1)).toBe('+275760-09-13T00:00:00.001Z');
    expect(timestamp(Number.POSITIVE_INFINITY)).toBe('infinity');
    expect(timestamp(Number.NEGATIVE_INFINITY)).toBe('-infinity');
  });
});

describe('columns', () => {
  it('show at every place what the row shows', () => {
    for (let round = 0; round < rounds(1_500, 300); round += 1) {
      const answer = randomAnswer(new Random(SEED + 4, round), 20);
      const about = `series ${SEED + 4}, round ${round}`;
      const { columns, names, rowCount } = columnsOf(encodeAnswer(answer));
      expect(rowCount).toBe(answer.rows);
      expect(names).toEqual(answer.columns.map((column) => column.name));
      for (const { name, type, nulls, values } of answer.columns) {
        const column = columns[name];
        expect(column?.type).toBe(type);
        for (let row = 0; row < answer.rows; row += 1) {
          expect(column?.at(row), `${about}, ${name}`).toEqual(
            nulls[row] === true ? null : values[row]?.shown,
          );
          const bit = column?.nulls == null ? 0 : ((column.nulls[row >> 3] as number) >> (row & 7)) & 1;
          expect(bit === 1).toBe(nulls[row]);
        }
        for (const beyond of [answer.rows, -1, 0.5, Number.NaN]) expect(column?.at(beyond)).toBeUndefined();
      }
    }
  });

  it('are views of the bytes, with a dictionary of what is used', () => {
    const texts = ['b', 'a', 'b', ''];
    const values = texts.map((text) => ({ encoded: text, shown: text }));
    const numbers = [1, 2, 3, 4].map((number) => ({ encoded: number, shown: number }));
    const bytes = encodeAnswer({
      rows: 4,
      columns: [
        { name: 't', type: 'text', encoding: 5, nulls: [false, false, false, true], values },
        { name: 'n', type: 'numeric', encoding: 3, nulls: [false, false, false, false], values: numbers },
      ],
    });
    const { columns } = columnsOf(bytes);
    const { t, n } = columns;
    if (t?.kind !== 'codes' || n?.kind !== 'numbers') throw new Error('other kinds');
    expect([...t.codes]).toEqual([1, 0, 1, 2]);
    expect(t.dictionary).toEqual(['a', 'b']);
    expect(t.nulls).toEqual(new Uint8Array([8]));
    expect(n.values).toEqual(new Float64Array([1, 2, 3, 4]));
    expect(n.values.buffer).toBe(bytes.buffer);
  });
});

describe('what the native side has written', () => {
  it.each([
    ['numbers.bin', 'numbers.txt'],
    ['texts.bin', 'texts.txt'],
  ])('%s is read as its own JSON', (bytes, json) => {
    const expected = JSON.parse(golden(json).toString()) as object[];
    expect(expected).toHaveLength(5);
    for (let again = 0; again < 30; again += 1) expectRows(rowsOf(golden(bytes)), expected, bytes);
    const { columns, names } = columnsOf(golden(bytes));
    for (const name of names) {
      const shown = expected.map((row) => own(row, name));
      expect(
        shown.map((_, row) => columns[name]?.at(row)),
        name,
      ).toEqual(shown);
    }
  });

  it('a batch has the answers in their order, and each says where it came from', () => {
    const [wide, empty, ...more] = answersOf(golden('batch.bin'));
    if (wide === undefined || empty === undefined) throw new Error('two answers');
    expect(more).toEqual([]);
    expectRows(rowsOf(wide), rowsOf(golden('numbers.bin')), 'batch');
    expect(rowsOf(empty)).toEqual([]);
    expect(factsOf(wide)).toEqual({ layer: 'store', generation: 42, reason: null, micros: 1_234 });
    expect(factsOf(empty)).toEqual({ layer: 'source', generation: 0, reason: 'cold', micros: 7 });
    const { rowCount, names, ...facts } = columnsOf(golden('numbers.bin'));
    expect([rowCount, names.length]).toEqual([5, 14]);
    expect(facts).toMatchObject({ cacheHit: true, layer: 'store', generation: 42, queryTimeMs: 1.234 });
    expect(facts).not.toHaveProperty('reason');
  });

  it('one answer is a batch of one', () => {
    expect(answersOf(golden('numbers.bin'))).toHaveLength(1);
    const answers = [3, 4, 5].map((round) => randomAnswer(new Random(SEED + 5, round), 9));
    const read = answersOf(encodeBatch(answers.map(encodeAnswer)));
    for (const [at, answer] of answers.entries()) {
      expectRows(rowsOf(read[at] ?? Buffer.alloc(0)), shownRows(answer), `${at}`);
    }
    expect(answersOf(encodeBatch([]))).toEqual([]);
  });
});
