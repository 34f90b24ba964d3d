/**
 * What an application asks of `authorizeRequest`, read once: a property that answers differently the second time
 * cannot pass for two things. Not a look at the token.
 * Invariant: a property that is not understood is refused, and what is left out by accident never means less
 * to prove: no token property and no user id is an error, and so is a verify without a token.
 */

import { consistency, text } from './arguments.js';
import type { Consistency } from './consistency.js';
import { InvalidArgumentError } from './errors.js';
import type { Spec } from './limiter/limits.js';
import { readPermission } from './permissions.js';

export type Verify = (token: string) => object | Promise<object>;

export interface Asked {
  /** `null`: the application vouches for the user id itself; empty: the request carried none. */
  readonly token: string | null;
  readonly verify: Verify | undefined;
  /** As given; `undefined`: the token's own. */
  readonly tokenId: string | null | undefined;
  /** Whether the blacklist is asked. */
  readonly checkToken: boolean;
  /** As given; `null`: the token's own. */
  readonly userId: string | null;
  /** All of them are needed. */
  readonly permissions: readonly string[];
  readonly consistency: Consistency;
  /** `null`: it counts against none. */
  readonly limits: readonly Spec[] | null;
}

/** Reads the limits of a request. */
export type ReadLimits = (field: string, limits: unknown) => readonly Spec[];

const PROPERTIES: ReadonlySet<PropertyKey> = new Set([
  'token',
  'verify',
  'tokenId',
  'userId',
  'permission',
  'consistency',
  'limit',
]);

export function readRequest(request: unknown, readLimits: ReadLimits): Asked {
  const given = properties(request);
  const token = given.has('token') ? readToken(given.get('token')) : null;
  const verify = given.get('verify');
  if (verify !== undefined && typeof verify !== 'function') throw refused('verify', 'a function is expected');
  if (verify !== undefined && token === null) {
    throw refused(
      'token',
      'it is missing although there is a verify; pass it even when the request has none',
    );
  }
  const tokenId = given.get('tokenId');
  const userId = given.get('userId');
  if (token === null && userId === undefined) {
    throw refused('userId', 'it is needed when there is no token property');
  }
  return {
    token,
    verify: verify as Verify | undefined,
    tokenId: tokenId === undefined || tokenId === null ? tokenId : id('tokenId', tokenId),
    checkToken: token === null ? typeof tokenId === 'string' : tokenId !== null,
    userId: userId === undefined ? null : id('userId', userId),
    permissions: readPermissions(given.get('permission')),
    consistency: consistency(given.get('consistency')),
    limits: given.get('limit') === undefined ? null : readLimits('limit', given.get('limit')),
  };
}

/** Every own property, read once. Inherited ones do not count: what everything inherits is nobody's request. */
function properties(request: unknown): Map<PropertyKey, unknown> {
  if (!isPlain(request)) throw refused('request', 'a plain object is expected');
  const given = new Map<PropertyKey, unknown>();
  const unknown: string[] = [];
  for (const name of Reflect.ownKeys(request)) {
    if (PROPERTIES.has(name)) given.set(name, request[name]);
    else unknown.push(String(name));
  }
  if (unknown.length > 0) {
    const accepted = [...PROPERTIES].join(', ');
    throw refused(unknown[0] as string, `unknown: ${unknown.join(', ')}; known are ${accepted}`);
  }
  return given;
}

/** An object literal, also one of another realm. */
function isPlain(value: unknown): value is Record<PropertyKey, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function readToken(value: unknown): string {
  if (value === undefined || value === null) return '';
  if (typeof value === 'string') return value;
  throw refused('token', `a string, null or undefined is expected, ${typeof value} was given`);
}

function id(field: string, value: unknown): string {
  const given = text(field, value);
  // Empty would mean "not given" further on.
  if (given === '') throw refused(field, 'it is empty; leave it out to use the one of the token');
  return given;
}

function readPermissions(value: unknown): readonly string[] {
  if (value === undefined) return [];
  const list: unknown[] = Array.isArray(value) ? Array.from(value) : [value];
  if (list.length === 0) {
    throw refused('permission', 'an empty list would let everybody in; leave it out to ask for none');
  }
  for (const permission of list) readPermission(permission);
  return list as string[];
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
