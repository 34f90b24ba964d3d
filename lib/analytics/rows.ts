/**
 * Rows of an answer as ordinary objects. Not columns: see `columns.ts`. Invariant: the objects are those that `JSON.parse` would
 * make of the same rows, in the same order, except that a float may be no number or infinite.
 */

import { type Answer, readAnswer, readBatch } from './layout.js';
import { makeRows } from './shapes.js';

export type Row = Record<string, unknown>;

/** What `fetch` tells: rows, and where they came from. */
export interface AnsweredRows {
  readonly rows: Row[];
  readonly cacheHit: boolean;
  readonly layer: 'near' | 'store' | 'source';
  /** `null`: the source itself. */
  readonly generation: number | null;
  readonly queryTimeMs: number;
  /** Why the source was asked. */
  readonly reason?: string | undefined;
}

export interface Facts extends Omit<AnsweredRows, 'rows'> {}

export function toRows(bytes: Uint8Array): Row[] {
  return makeRows(readAnswer(bytes));
}

export function toBatch(bytes: Uint8Array): Row[][] {
  return readBatch(bytes).map(makeRows);
}

export function toAnswer(bytes: Uint8Array): AnsweredRows {
  const answer = readAnswer(bytes);
  return { rows: makeRows(answer), ...factsOf(answer) };
}

/** What an answer says of itself. */
export function factsOf(answer: Answer): Facts {
  const { layer, generation, micros, reason } = answer;
  return {
    cacheHit: layer !== 'source',
    layer,
    generation: layer === 'source' ? null : generation,
    queryTimeMs: micros / 1_000,
    // Left out instead of undefined, so that a printed answer shows only what is known.
    ...(reason === '' ? undefined : { reason }),
  };
}
