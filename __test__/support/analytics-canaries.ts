/**
 * A table in which every row says whose it is, and the search for rows in whatever an answer is made of. Not a judge of order
 * or values. Invariant: a row's canary is in its texts, its dictionaries and its bytes; what is searched is everything that
 * can be reached from an answer, the memory under a typed array included.
 */
import type { Scope } from '../../index.js';
import type { Row, Table } from './analytics-tables.js';

export const CANARIES: Table = {
  dataSource: 13,
  name: 'canaries',
  frequency: 'frequency',
  date: 'date_index',
  columns: [
    { name: 'id', kind: 'bigint', sql: 'bigint' },
    { name: 'practice_uid', kind: 'int', sql: 'integer' },
    { name: 'provider_uid', kind: 'int', sql: 'integer' },
    { name: 'measure', kind: 'text', sql: 'text' },
    { name: 'frequency', kind: 'text', sql: 'text', flag: 'is_time_period' },
    { name: 'date_index', kind: 'date', sql: 'date', flag: 'is_date_field' },
    { name: 'measure_value', kind: 'numeric', sql: 'numeric', flag: 'is_measure' },
    { name: 'practice', kind: 'text', sql: 'text' },
    { name: 'note', kind: 'text', sql: 'text' },
    { name: 'doc', kind: 'json', sql: 'jsonb' },
  ],
};
export const MEASURE = 'Charges';
export const FREQUENCY = 'Monthly';
export const PRACTICES = Array.from({ length: 60 }, (_, practice) => practice);
/** Ids that belong to several practices: a provider of one must not show those of another. */
export const PROVIDERS = [0, 1, 2, 3, 4, 5, 6, 7];

interface Line {
  readonly id: number;
  readonly practice: number | null;
  readonly provider: number | null;
}

/** Three lines of every practice and provider, those of no practice and of no provider among them. */
export function lines(): Line[] {
  const all: Line[] = [];
  for (const practice of [...PRACTICES, null])
    for (const provider of [...PROVIDERS, null])
      for (let n = 0; n < 3; n += 1) all.push({ id: all.length + 1, practice, provider });
  return all;
}

const ownerOf = ({ practice, provider }: Line): string => `${practice ?? 'none'}.${provider ?? 'none'}`;

export const canaryRows = (all: readonly Line[]): Row[] =>
  all.map((line) => ({
    id: line.id,
    practice_uid: line.practice,
    provider_uid: line.provider,
    measure: MEASURE,
    frequency: FREQUENCY,
    date_index: `2024-0${1 + (line.id % 3)}-01`,
    measure_value: '1',
    practice: `canary<${ownerOf(line)}>`,
    note: `row ${line.id} canary<${ownerOf(line)}>`,
    doc: JSON.stringify({ owner: `canary<${ownerOf(line)}>` }),
  }));

export interface Lists {
  readonly practiceUids?: readonly number[];
  readonly providerUids?: readonly number[];
}

/** Whether a row may be in the answer, by the plainest reading of a scope and the asked lists. */
export function allows(
  scope: Scope,
  { practiceUids, providerUids }: Lists,
  { practice, provider }: Line,
): boolean {
  const among = (list: readonly number[] | null | undefined, id: number | null) =>
    list === null || list === undefined || (id !== null && list.includes(id));
  if (scope.kind === 'nothing') return false;
  const seen = scope.kind === 'all' || (among(scope.practices, practice) && among(scope.providers, provider));
  return seen && among(practiceUids, practice) && among(providerUids, provider);
}

/** Every text that can be reached from `answer`. */
function* texts(answer: unknown, seen = new Set<object>()): Generator<string> {
  if (typeof answer === 'string') yield answer;
  if (typeof answer !== 'object' || answer === null || seen.has(answer)) return;
  seen.add(answer);
  if (ArrayBuffer.isView(answer)) {
    // All of the memory that was handed over, not the part that is shown of it.
    const { buffer } = answer;
    if (!seen.has(buffer)) {
      seen.add(buffer);
      yield Buffer.from(buffer as ArrayBuffer).toString('latin1');
    }
    return;
  }
  if (answer instanceof ArrayBuffer) yield Buffer.from(answer).toString('latin1');
  for (const key of Reflect.ownKeys(answer)) {
    if (typeof key === 'string' && !Array.isArray(answer)) yield key;
    yield* texts(Reflect.get(answer, key), seen);
  }
}

const CANARY = /canary<([^<>]+)>/g;

/** Whose rows are in it, `practice.provider` each. */
export function owners(answer: unknown): Set<string> {
  const found = new Set<string>();
  for (const text of texts(answer)) for (const [, owner] of text.matchAll(CANARY)) found.add(String(owner));
  return found;
}

/** Owners in an answer that should not be there. */
export function strangers(answer: unknown, allowed: readonly Line[]): string[] {
  const expected = new Set(allowed.map(ownerOf));
  return [...owners(answer)].filter((owner) => !expected.has(owner));
}
