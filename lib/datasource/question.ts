/**
 * One question to a data source: under which key, for how long, and what its query brings. Not the decision who runs
 * the query, and not whether a result is current.
 * Invariant: what is stored is JSON of an object that says when it was made and until when it is current.
 */

import type * as Public from '../../index.js';
import { InvalidArgumentError } from '../errors.js';
import { shortened } from '../jitter.js';
import { Scope } from '../scope.js';
import { type Aging, readAging } from './aging.js';
import { dataSourceKey } from './key.js';
import { lifetimeSeconds } from './lifetime.js';

/** As it is stored. The times come first, so that they are found without parsing the rest. */
export interface Stored {
  readonly cached_at: string;
  readonly expires_at: string;
  readonly data: unknown;
  readonly query_time_ms: number;
}

export type Query = () => Promise<object>;

export interface Question {
  readonly source: string;
  readonly hash: string;
  readonly ttlMs: number;
  readonly query: Query;
  readonly raw: boolean;
  readonly aging: Aging;
}

export function readQuestion(
  params: object,
  userOrganizations: readonly string[] | null | undefined,
  query: Query,
  options: Public.DataSourceOptions | undefined,
): Question {
  if (typeof query !== 'function') throw refused('queryFunction', 'a function is expected');
  const { dataSourceId, hash, endDate } = dataSourceKey(
    params,
    userOrganizations,
    scopeText(options?.scopeKey),
  );
  const seconds = lifetimeSeconds(endDate, Date.now(), options?.timeZone);
  const ttlMs = shortened(seconds * 1_000, Math.random());
  const [raw, aging] = [options?.raw === true, readAging(options)];
  return { source: dataSourceId, hash, ttlMs, query, raw, aging };
}

/** A scope in words: all of it, since a part would make two of them one. */
function scopeText(given: string | Public.Scope | undefined): string | undefined {
  if (!(given instanceof Scope)) return given as string | undefined;
  const { kind, practices, providers } = given;
  return JSON.stringify({ kind, practices, providers });
}

/** Runs the query. How long it took is filled in when it does not say so itself. */
export async function run({ query, ttlMs }: Question): Promise<Stored> {
  const from = performance.now();
  const result: unknown = await query();
  if (typeof result !== 'object' || result === null || Array.isArray(result)) {
    throw refused('the result of queryFunction', 'an object with data is expected');
  }
  const query_time_ms = Math.round(performance.now() - from);
  const now = Date.now();
  const times = { cached_at: new Date(now).toISOString(), expires_at: new Date(now + ttlMs).toISOString() };
  return { ...times, query_time_ms, ...result, ...times } as Stored;
}

export function json(loaded: unknown): string {
  const field = 'the result of queryFunction';
  let cause: unknown;
  try {
    const written: string | undefined = JSON.stringify(loaded);
    // With a toJSON of its own it may be anything.
    if (written?.startsWith('{')) return written;
  } catch (error) {
    cause = error;
  }
  throw new InvalidArgumentError(`${field} is not accepted: JSON cannot carry it`, { field, cause });
}

export function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
