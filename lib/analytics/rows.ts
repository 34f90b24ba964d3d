/**
 * Rows of an answer as ordinary objects. Not columns: see `columns.ts`. Invariant: the objects are those that `JSON.parse` would
 * make of the same rows, in the same order, except that a float may be no number or infinite.
 */

import type { AnalyticsFallbackReason } from '../../index.js';
import { type Answer, readAnswer, readAnswers } from './layout.js';
import { makeRows } from './shapes.js';

export type Row = Record<string, unknown>;

/** What an answer says of itself. */
export interface Facts {
  readonly layer: 'near' | 'store' | 'source';
  /** 0 = the source itself, or nobody, because nothing may be seen. */
  readonly generation: number;
  /** Why the source was asked. */
  readonly reason: AnalyticsFallbackReason | null;
  readonly micros: number;
}

/** The answers of one reply, be it one or a batch. */
export function answersOf(reply: Uint8Array): Answer[] {
  return readAnswers(reply);
}

export function rowsOf(answer: Uint8Array | Answer): Row[] {
  return makeRows(answer instanceof Uint8Array ? readAnswer(answer) : answer);
}

export function factsOf(answer: Uint8Array | Answer): Facts {
  const { layer, generation, reason, micros } = answer instanceof Uint8Array ? readAnswer(answer) : answer;
  return { layer, generation, reason, micros };
}
