/**
 * What a response tells of the limits: `X-RateLimit-*`, `Retry-After`, and the fields `RateLimit` and
 * `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers. Not a promise: what is left may be used by others.
 * Invariant: every value is printable ASCII whatever a limit is called, and no time is earlier than the true one.
 */

import { InvalidArgumentError } from '../errors.js';
import { type CombinedRateLimitResult, type RateLimitResult, resultsOf, waitMs } from './result.js';

interface Outgoing {
  readonly headersSent?: unknown;
  setHeader(name: string, value: string): unknown;
}

type Fields = readonly (readonly [name: string, value: string])[];

/** The most a structured field's integer can say. */
const MOST = 999_999_999_999_999;
/** Of a name; more would crowd out other headers. */
const LONGEST_NAME = 128;

/**
 * The response with the fields of the result, replacing what it had under these names. It is the same one, except
 * for a `Response` that cannot be changed, as after `fetch`: that is answered by a copy, which takes over its body.
 */
export function addRateLimitHeaders<T>(response: T, result: RateLimitResult | CombinedRateLimitResult): T {
  const fields = fieldsOf(result);
  if (isOutgoing(response)) {
    if (response.headersSent === true) throw refused('its headers were already sent');
    for (const [name, value] of fields) response.setHeader(name, value);
    return response;
  }
  if (isHeaders(response)) {
    if (set(response, fields)) return response;
    throw refused('these headers cannot be changed; pass the Response they belong to');
  }
  if (!isResponse(response)) {
    throw refused('a Response, Headers, or something with setHeader is expected');
  }
  if (set(response.headers, fields)) return response;
  const copy = copyOf(response);
  set(copy.headers, fields);
  return copy as T & Response;
}

/** What a limit is called in the fields, before it is quoted: UTF-8, percent-encoded where it is not printable. */
export function policyName(type: string): string {
  const bytes = new TextEncoder().encode(type.slice(0, LONGEST_NAME));
  return Array.from(bytes, (byte) =>
    byte >= 0x20 && byte <= 0x7e ? String.fromCharCode(byte) : percent(byte),
  ).join('');
}

function fieldsOf(result: RateLimitResult | CombinedRateLimitResult): Fields {
  const results = resultsOf(result);
  const fields: [string, string][] = [
    ['X-RateLimit-Limit', `${down(result.limit)}`],
    ['X-RateLimit-Remaining', `${down(result.remaining)}`],
    ['X-RateLimit-Reset', `${up(result.resetAt)}`],
    ['RateLimit-Policy', results.map(policy).join(', ')],
    ['RateLimit', results.map(serviceLimit).join(', ')],
  ];
  const wait = waitMs(result);
  if (!result.allowed && wait !== Number.POSITIVE_INFINITY) fields.push(['Retry-After', `${seconds(wait)}`]);
  return fields;
}

function policy({ type, limit, windowSeconds }: RateLimitResult): string {
  return `${quoted(type)};q=${down(limit)};w=${Math.max(1, up(windowSeconds))}`;
}

/** Without `t` when all of it is there, or when no more of it will ever be. */
function serviceLimit({ type, remaining, replenishAfterMs }: RateLimitResult): string {
  const known = replenishAfterMs > 0 && replenishAfterMs !== Number.POSITIVE_INFINITY;
  return `${quoted(type)};r=${down(remaining)}${known ? `;t=${seconds(replenishAfterMs)}` : ''}`;
}

/** A String of RFC 9651. */
function quoted(type: string): string {
  return `"${policyName(type).replace(/["\\]/g, '\\$&')}"`;
}

function percent(byte: number): string {
  return `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Nobody who comes after this many seconds comes too early. */
function seconds(ms: number): number {
  return Math.max(1, up(ms / 1_000));
}

function down(value: number): number {
  return Math.floor(Math.min(Math.max(0, value), MOST));
}

function up(value: number): number {
  return Math.ceil(Math.min(Math.max(0, value), MOST));
}

/** Whether they could be changed: those of `fetch`, `Response.redirect` and of a Next.js page cannot. */
function set(headers: Headers, fields: Fields): boolean {
  try {
    for (const [name, value] of fields) headers.set(name, value);
    return true;
  } catch {
    return false;
  }
}

function copyOf(response: Response): Response {
  const { status, statusText, headers } = response;
  if (status === 0) throw refused('a network error carries no headers');
  try {
    return new Response(response.body, { status, statusText, headers });
  } catch (cause) {
    throw refused('it cannot be changed, and not be copied either because its body was already read', cause);
  }
}

function isOutgoing(value: unknown): value is Outgoing {
  return has(value, 'setHeader');
}

/** By what they can do: a framework has its own class. `getSetCookie` tells them from forms and parameters of a URL. */
function isHeaders(value: unknown): value is Headers {
  return has(value, 'set') && has(value, 'getSetCookie');
}

function isResponse(value: unknown): value is Response {
  if (typeof value !== 'object' || value === null) return false;
  const { headers, status } = value as Readonly<Record<string, unknown>>;
  return typeof status === 'number' && isHeaders(headers);
}

function has(value: unknown, method: string): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return typeof (value as Readonly<Record<string, unknown>>)[method] === 'function';
}

function refused(why: string, cause?: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`response is not accepted: ${why}`, { field: 'response', cause });
}
