/**
 * A question of the application as the JSON text that crosses. Kinds of arguments are checked here, what they mean is checked
 * in Rust (`crates/core/src/analytics/asked`). Invariant: what is not known is refused, never ignored: a misspelt filter
 * would show more than was asked for. Every property is read once.
 */

import { isDate } from 'node:util/types';
import type * as Public from '../../index.js';
import { text } from '../arguments.js';
import { InvalidArgumentError, ScopeError } from '../errors.js';
import { Scope } from '../scope.js';

/** Values of one list. */
const LONGEST_LIST = 100_000;
/** Whole numbers that Postgres has for identifiers. */
const LEAST_ID = -(2n ** 63n);
const MOST_ID = 2n ** 63n - 1n;
/** Digits of an exact number. */
const MOST_DIGITS = 38;

type Read = (field: string, value: unknown) => string;
type Fields = Readonly<Record<string, Read>>;

/** Of every question. */
const FILTERS: Fields = {
  datasourceId: (field, value) => String(wholeNumber(field, value)),
  measure: textJson,
  frequency: textJson,
  practiceUids: ids,
  providerUids: ids,
  startDate: date,
  endDate: date,
  advancedFilters: (field, value) => list(field, value, condition),
  scope: scopeJson,
};

const ROWS: Fields = { ...FILTERS, columns: (field, value) => list(field, value, textJson) };

const GROUPS: Fields = {
  ...FILTERS,
  groupBy: (field, value) => list(field, value, groupBy),
  metrics: (field, value) => list(field, value, metric),
  dateTrunc: textJson,
};

const CONDITION: Fields = { field: textJson, operator: textJson, value: operand };
const GROUP_BY: Fields = { column: textJson, unit: textJson };
const METRIC: Fields = { function: textJson, column: textJson, as: textJson };

/** The question for rows. */
export function filtersText(filters: Public.CacheQueryFilters): string {
  return object('filters', filters, ROWS, '', { datasourceId: 'a whole number' });
}

/** The question for groups of them. */
export function aggregateText(question: Public.AggregateQuestion): string {
  if (typeof question === 'object' && question !== null && 'columns' in question) {
    throw refused('columns', 'the columns of an aggregate are those of groupBy and metrics');
  }
  const needed = { datasourceId: 'a whole number', metrics: 'a list of metrics, which may be empty,' };
  return object('question', question, GROUPS, '', needed);
}

/** The id of a data source. */
export function dataSourceId(value: unknown): number {
  return wholeNumber('datasourceId', value);
}

/** An object with these fields and no others. What is undefined counts as left out. */
function object(
  field: string,
  value: unknown,
  fields: Fields,
  path: string,
  needed: Readonly<Record<string, string>>,
): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw refused(field, `an object is expected, ${kindOf(value)} was given`);
  }
  for (const name of Object.keys(value)) {
    if (!Object.hasOwn(fields, name)) {
      throw refused(`${path}${name}`, `there is no such field; known are ${Object.keys(fields).join(', ')}`);
    }
  }
  const given = value as Record<string, unknown>;
  const parts: string[] = [];
  for (const [name, read] of Object.entries(fields)) {
    const one = given[name];
    if (one !== undefined) {
      parts.push(`"${name}":${read(`${path}${name}`, one)}`);
    } else if (needed[name] !== undefined) {
      throw refused(`${path}${name}`, `it is missing; ${needed[name]} is expected`);
    } else if (name === 'scope' && name in given) {
      // Of a caller whose context was lost on the way. Left out, it would show everything.
      throw new ScopeError('scope is not accepted: it is given but undefined; scopeOf(context) is expected', {
        field: 'scope',
      });
    }
  }
  return `{${parts.join(',')}}`;
}

function list(field: string, value: unknown, read: Read): string {
  return `[${items(field, value)
    .map((item, at) => read(`${field}[${at}]`, item))
    .join(',')}]`;
}

/** A copy, so that nobody changes what was checked. Holes count as undefined. */
function items(field: string, value: unknown): unknown[] {
  if (!Array.isArray(value)) throw refused(field, `an array is expected, ${kindOf(value)} was given`);
  if (value.length > LONGEST_LIST) throw refused(field, `at most ${LONGEST_LIST} values are expected`);
  return Array.from(value);
}

function textJson(field: string, value: unknown): string {
  return JSON.stringify(text(field, value));
}

function wholeNumber(field: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  throw refused(field, `a whole number is expected, ${kindOf(value)} was given`);
}

function ids(field: string, value: unknown): string {
  const parts: string[] = [];
  for (const [at, id] of items(field, value).entries()) {
    if (typeof id === 'number' && Number.isSafeInteger(id)) {
      parts.push(String(id));
    } else if (typeof id === 'bigint' && id >= LEAST_ID && id <= MOST_ID) {
      parts.push(bigJson(id));
    } else {
      throw refused(
        `${field}[${at}]`,
        `a whole number (number or bigint of 64 bits) is expected, ${kindOf(id)} was given`,
      );
    }
  }
  return `[${parts.join(',')}]`;
}

function bigJson(value: bigint): string {
  return `{"$bigint":"${value}"}`;
}

/** A day or a moment; what it means is decided by the column. */
function date(field: string, value: unknown): string {
  if (isDate(value)) return moment(field, value);
  if (typeof value === 'string') return textJson(field, value);
  throw refused(field, `a Date, or a text as YYYY-MM-DD, is expected, ${kindOf(value)} was given`);
}

function moment(field: string, value: Date): string {
  if (Number.isNaN(value.getTime())) throw refused(field, 'a valid Date is expected');
  return `"${value.toISOString()}"`;
}

function condition(field: string, value: unknown): string {
  const needed = { field: 'the name of a column', operator: 'an operator', value: 'a value, or null,' };
  return object(field, value, CONDITION, `${field}.`, needed);
}

/** What a column is compared with: a value, or a list of them. */
function operand(field: string, value: unknown): string {
  return Array.isArray(value) ? list(field, value, literal) : literal(field, value);
}

function literal(field: string, value: unknown): string {
  switch (typeof value) {
    case 'string':
      return textJson(field, value);
    case 'boolean':
      return String(value);
    case 'number':
      // JSON has no others. Postgres does: as text.
      if (!Number.isFinite(value)) throw refused(field, "a finite number is expected; else 'NaN' as a text");
      return JSON.stringify(value);
    case 'bigint':
      if (String(value).length > MOST_DIGITS)
        throw refused(field, `at most ${MOST_DIGITS} digits are expected`);
      return bigJson(value);
    case 'object':
      if (value === null) return 'null';
      if (isDate(value)) return moment(field, value);
      break;
    default:
  }
  const accepted = 'a text, a number, a bigint, a boolean, a Date or null';
  throw refused(field, `${accepted} is expected, ${kindOf(value)} was given`);
}

function groupBy(field: string, value: unknown): string {
  if (typeof value === 'string') return textJson(field, value);
  return object(field, value, GROUP_BY, `${field}.`, { column: 'the name of a column' });
}

function metric(field: string, value: unknown): string {
  return object(field, value, METRIC, `${field}.`, { function: 'a function' });
}

/** Only what `scopeOf` made: rights are not taken from what somebody may have put together. */
function scopeJson(field: string, value: unknown): string {
  if (!(value instanceof Scope)) {
    throw new ScopeError(
      `${field} is not accepted: the very object that scopeOf(context) gave is expected, ${kindOf(value)} was given`,
      { field },
    );
  }
  const { kind, practices, providers } = value;
  return `{"kind":"${kind}","practices":${ids(field, practices)},"providers":${providers === null ? 'null' : ids(field, providers)}}`;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'number') return Number.isFinite(value) ? `the number ${value}` : String(value);
  return typeof value === 'object' ? 'an object' : typeof value;
}

function refused(field: string, accepted: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${accepted}`, { field });
}
