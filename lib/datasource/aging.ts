/**
 * Results past their time, or shortly before its end: what a caller accepts of them, and what it was told. Not the
 * decision, which the native side makes from the store's own reckoning of time.
 * Invariant: a caller who says nothing gets nothing past its time and refreshes nothing.
 */

import type * as Public from '../../index.js';
import { InvalidArgumentError } from '../errors.js';
import { AGED, type AgedReply, type BeginReply } from '../native.js';

/** In the terms of the native side; 0 = not at all. */
export interface Aging {
  readonly staleMs: number;
  readonly beta: number;
}

const NONE: Aging = { staleMs: 0, beta: 0 };
/** The native side refuses more. */
const LONGEST_MS = 86_400_000;

export function readAging(options: Public.DataSourceOptions | undefined): Aging {
  const { staleMs, earlyRefresh } = options ?? {};
  if (staleMs === undefined && earlyRefresh === undefined) return NONE;
  return { staleMs: readStaleMs(staleMs), beta: readBeta(earlyRefresh) };
}

function readStaleMs(given: unknown): number {
  if (given === undefined) return 0;
  if (Number.isInteger(given) && Number(given) >= 0 && Number(given) <= LONGEST_MS) return Number(given);
  throw refused('staleMs', `a whole number of milliseconds between 0 and ${LONGEST_MS} (a day) is expected`);
}

function readBeta(given: unknown): number {
  if (given === undefined || given === false) return 0;
  if (given === true) return 1;
  if (typeof given !== 'object' || given === null) {
    throw refused('earlyRefresh', 'true, false, or an object with beta is expected');
  }
  const { beta }: { beta?: unknown } = given;
  if (beta === undefined) return 1;
  if (typeof beta === 'number' && beta > 0 && Number.isFinite(beta)) return beta;
  throw refused('earlyRefresh.beta', 'a finite number above 0 is expected; 1 is usual');
}

/** What one call was told of the age of its answer. */
export class Told {
  /** Of the last reply. */
  stale = false;
  /** Which version this call shall refresh; told once, also when the answer itself had to be asked for again. */
  version: string | null = null;

  /** The reply without it. */
  read(reply: BeginReply | AgedReply): BeginReply {
    this.stale = false;
    if (!isAged(reply)) return reply;
    const [, found, stale, version] = reply;
    this.stale = stale;
    this.version ??= version;
    return found;
  }
}

function isAged(reply: BeginReply | AgedReply): reply is AgedReply {
  return Array.isArray(reply) && reply[0] === AGED;
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
