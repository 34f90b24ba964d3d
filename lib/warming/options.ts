/**
 * What `warmCache` is asked for, checked. Not whether it is done: the native side decides that.
 * Invariant: what is accepted here can be carried out; a mistake is an `InvalidArgumentError` that names the option.
 */

import type * as Public from '../../index.js';
import { type CallOptions, deadline } from '../arguments.js';
import { InvalidArgumentError } from '../errors.js';

export type Level = Public.WarmupLevel;
export type Source = Public.WarmupDataSource;

/** An order, complete. */
export interface Plan {
  readonly level: Level;
  readonly users: number;
  readonly concurrency: number;
  readonly force: boolean;
  readonly sources: readonly Source[] | ((mostUsed: readonly string[]) => unknown);
  /** Whether they are warmed at this level, and may be some. */
  readonly hasSources: boolean;
  readonly onProgress: ((progress: Public.WarmupProgress) => void) | undefined;
  readonly signal: AbortSignal | undefined;
  /** 0 = the longest. */
  readonly deadlineMs: number;
}

const LEVELS: readonly unknown[] = ['none', 'minimal', 'aggressive'] satisfies readonly Level[];
const USUAL_USERS = 100;
const MOST_USERS = 10_000;
const USUAL_CONCURRENCY = 8;
const MOST_CONCURRENCY = 1_000;
/** More than an application has charts. */
const MOST_SOURCES = 1_000;
const NAMES: ReadonlySet<string> = new Set([
  'level',
  'users',
  'dataSources',
  'concurrency',
  'force',
  'onProgress',
  'signal',
  'deadlineMs',
]);

export function readPlan(options: Public.WarmupOptions | undefined, usual: string): Plan {
  const given: Public.WarmupOptions = options ?? {};
  if (typeof given !== 'object' || Array.isArray(given)) throw refused('options', 'an object is expected');
  for (const name of Object.keys(given)) {
    if (!NAMES.has(name)) throw refused(name, `one of ${[...NAMES].join(', ')} is expected`);
  }
  const { level = usual as Level, dataSources, force = false, onProgress, signal } = given;
  if (!LEVELS.includes(level)) throw refused('level', "'none', 'minimal' or 'aggressive' is expected");
  if (typeof force !== 'boolean') throw refused('force', 'true or false is expected');
  if (onProgress !== undefined && typeof onProgress !== 'function') {
    throw refused('onProgress', 'a function is expected');
  }
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw refused('signal', 'an AbortSignal is expected');
  }
  const sources = typeof dataSources === 'function' ? dataSources : readSources(dataSources ?? []);
  return {
    level,
    users: whole('users', given.users ?? USUAL_USERS, 0, MOST_USERS),
    concurrency: whole('concurrency', given.concurrency ?? USUAL_CONCURRENCY, 1, MOST_CONCURRENCY),
    force,
    sources,
    hasSources: level === 'aggressive' && (typeof sources === 'function' || sources.length > 0),
    onProgress,
    signal,
    deadlineMs: deadline(given as CallOptions),
  };
}

/** The list, or what the application's function has made of it. */
export function readSources(given: unknown): readonly Source[] {
  const field = 'dataSources';
  if (!Array.isArray(given) || given.length > MOST_SOURCES) {
    throw refused(field, `a list of at most ${MOST_SOURCES}, or a function that returns one, is expected`);
  }
  for (const [at, one] of given.entries()) {
    const { params, queryFunction } = (one ?? {}) as Partial<Source>;
    if (typeof params !== 'object' || params === null || typeof queryFunction !== 'function') {
      throw refused(`${field}[${at}]`, '{ params, userOrganizations, queryFunction, options? } is expected');
    }
  }
  return given as readonly Source[];
}

function whole(field: string, value: unknown, least: number, most: number): number {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) {
    return value as number;
  }
  throw refused(field, `a whole number between ${least} and ${most} is expected`);
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
