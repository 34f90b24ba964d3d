/**
 * Whose result it is: the data source and a hash of the parameters and of who may see the rows. Not the key itself,
 * which is built on the native side, and not the decision who may see what.
 * Invariant: the hash is the same exactly if parameters and scope mean the same. A caller who sees everything shares it
 * with nobody who does not, provided that this is said: by `null`, or by a scope key.
 */

import { sha256 } from '../digest.js';
import { InvalidArgumentError } from '../errors.js';
import { canonical, isPlain } from './canonical.js';

export interface DataSourceKey {
  /** As text, whether it was given as a number or as text. */
  readonly dataSourceId: string;
  /** SHA-256 of the canonical `{ params, scope: { organizations, scopeKey } }`, base64url. */
  readonly hash: string;
  /** As the parameters have it, from the same reading. */
  readonly endDate: unknown;
}

/** What applications call it; the seeds have three of them. */
const ID_NAMES = ['dataSourceId', 'data_source_id', 'datasourceId', 'datasource_id'] as const;
/** Of parameters that name no data source; invalidated together under this name. */
const NO_ID = 'default';

/**
 * `userOrganizations`: a set of ids, as given. `[]` is a caller who belongs to none, `null` one who is not restricted
 * by organizations. `undefined` is what a forgotten property gives, and is accepted only together with a scope key.
 * Organizations say nothing of an administrator who belongs to some, or of rights within one: that is for `scopeKey`.
 */
export function dataSourceKey(
  params: unknown,
  userOrganizations: unknown,
  scopeKey?: unknown,
): DataSourceKey {
  if (typeof params !== 'object' || params === null || !isPlain(params)) {
    throw refused('params', 'a plain object is expected');
  }
  // Read once: what is hashed is what the id and the end date are taken from.
  const given: Record<string, unknown> = { ...params };
  const written = canonical('params', given);
  const scope = scopeText(userOrganizations, scopeKey);
  return {
    dataSourceId: readId(given),
    hash: sha256(`{"params":${written},"scope":${scope}}`),
    endDate: own(given, 'end_date') ?? own(given, 'endDate'),
  };
}

/** Canonical as well. */
function scopeText(userOrganizations: unknown, scopeKey: unknown): string {
  const organizations = `"organizations":${organizationsText(userOrganizations, scopeKey)}`;
  return scopeKey === undefined
    ? `{${organizations}}`
    : `{${organizations},"scopeKey":${scopeKeyText(scopeKey)}}`;
}

function organizationsText(given: unknown, scopeKey: unknown): string {
  const field = 'userOrganizations';
  if (given === null || (given === undefined && scopeKey !== undefined)) return 'null';
  if (given === undefined) {
    throw refused(field, 'it is missing; null says that the caller sees every organization, [] that none');
  }
  if (!Array.isArray(given))
    throw refused(field, 'a list of ids, or null for every organization, is expected');
  const ids = Array.from(given as readonly unknown[], (id, at) => {
    if (typeof id === 'string') return id;
    throw refused(`${field}[${at}]`, `a string is expected, ${id === null ? 'null' : typeof id} was given`);
  });
  // In the caller's order first, so that a refusal names the right one.
  canonical(field, ids);
  return canonical(field, [...new Set(ids)].sort());
}

function scopeKeyText(given: unknown): string {
  if (typeof given !== 'string') {
    throw refused('scopeKey', `text is expected, ${given === null ? 'null' : typeof given} was given`);
  }
  if (given === '') throw refused('scopeKey', 'it is empty; leave it out when there is none');
  return canonical('scopeKey', given);
}

function readId(given: Readonly<Record<string, unknown>>): string {
  let [known, first]: [known: string | undefined, first: string] = [undefined, ''];
  for (const name of ID_NAMES) {
    const value = own(given, name);
    if (value === undefined || value === null) continue;
    const id = idOf(`params.${name}`, value);
    if (known !== undefined && id !== known) {
      throw refused(`params.${name}`, `it names another data source than params.${first}; pass one of them`);
    }
    [known, first] = [id, name];
  }
  return known ?? NO_ID;
}

function idOf(field: string, value: unknown): string {
  if (Number.isSafeInteger(value) || (typeof value === 'string' && value !== '')) return String(value);
  throw refused(field, 'the id of a data source is expected: a whole number, or text that is not empty');
}

/** Not what everything inherits. */
function own(given: Readonly<Record<string, unknown>>, name: string): unknown {
  return Object.hasOwn(given, name) ? given[name] : undefined;
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
