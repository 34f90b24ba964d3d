/**
 * The raw binding, loaded once per environment, and the reading of what it returns. Not the public surface.
 * Invariant: loading connects to nothing and starts no thread.
 */

import type { Consistency } from './consistency.js';
import { fromNative } from './errors.js';

type Generated = typeof import('../native.js');
type GeneratedEngine = import('../native.js').NativeEngine;

/** `null`; the number of an object this side may know; its JSON text when it has no number; or both. */
export type ObjectReply = null | number | string | readonly [serial: number, text: string];

/** The calls of every request, as plain functions: cheaper to call than methods of the binding. */
export interface Hot {
  peekRevoked(tokenId: string): boolean;
  /** Number of the object that may be served without asking; 0 = ask. */
  peekUser(userId: string): number;
  /** The same for a context; `bounded` = the caller accepts that, whatever mode is configured. */
  peekContext(userId: string, bounded: boolean): number;
  tokenIsBlacklisted(tokenId: string, full: false, deadlineMs: number): Promise<boolean>;
  userById(userId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  cachedJwt(token: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  beginJwt(token: string, full: boolean, deadlineMs: number): Promise<BeginReply>;
  userContext(userId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  userContextBounded(userId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  userContextFresh(userId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  rolePermissions(roleId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  authorize(
    token: string | null,
    tokenId: string | null,
    userId: string | null,
    checkToken: boolean,
    consistency: Consistency,
    full: boolean,
    deadlineMs: number,
    limits: LimitArguments | null,
  ): Promise<AuthorizeReply>;
  limit(
    type: string,
    identifier: string,
    limit: number,
    windowMs: number,
    cost: number,
    fallback: number,
    charge: boolean,
    deadlineMs: number,
  ): Promise<LimitReply>;
  limits(limits: LimitArguments, charge: boolean, deadlineMs: number): Promise<LimitReply>;
}

/** Type, identifier, limit, window in milliseconds, cost and 0 (local), 1 (open) or 2 (closed), of each limit. */
export type LimitArguments = readonly (string | number)[];

/**
 * Twelve characters of 16 bits per limit: state (1), remaining (2), milliseconds until more of it is back (3), until all
 * of it is (3), and until a retry (3, all bits set = never), higher bits first. State: 0 denied, 1 admitted, 2 denied
 * for want of a store, 3 not asked; 4 more without the store. One text crosses in the time of one number.
 */
export type LimitReply = string;

/** First element of a reply that hands out a loader ticket, or that names somebody else's failed loader. */
export const LEAD = -1;
export const LOADER_FAILED = -2;
/** First element of a reply that says how old the answer in it is. */
export const AGED = -5;

/** As well, of a value of several layers: another call has just loaded it, and it is stored, or it is not. */
export const SHARED = -3;
export const SHARED_ONLY = -4;

/** A buffer only when it was asked for. */
export type BeginReply = number | string | Buffer | readonly [serial: number, textOrLead: string | number];

/** Whether it is past its time, and the version that the caller is to refresh. */
export type AgedReply = readonly [
  aged: typeof AGED,
  found: BeginReply,
  stale: boolean,
  refresh: string | null,
];

/** Acknowledged by the store, queued for it, and whether a row was inserted. */
export type InvalidationReply = readonly [acknowledged: boolean, queued: boolean, inserted: boolean | null];

/** What an authorization invalidation voids; the id is empty where there is none. */
export type Voided = 'user' | 'role_users' | 'organization_members' | 'hierarchy' | 'role' | 'roles';

/** Everything a request is decided by, from one round trip. The ids are those that were used. */
export type AuthorizeReply = readonly [
  /** `null` = not asked. */
  revoked: boolean | null,
  payload: ObjectReply,
  /** `null` = not asked, or denied. */
  context: ObjectReply,
  denied: 'unknown' | 'inactive' | 'deleted' | null,
  tokenId: string | null,
  userId: string | null,
  /** `null` = not asked. When one denies, nothing else is known. */
  limits: LimitReply | null,
];

/** Methods whose generated types say less than is known of them. */
interface Typed {
  hot(): Hot;
  /** `holdMs` 0 = no hold; `reason` may be empty. */
  invalidateRbac(
    what: Voided,
    id: string,
    reason: string,
    holdMs: number,
    deadlineMs: number,
  ): Promise<InvalidationReply>;
  /** Resolves when the outbox is installed, or removed. */
  migrate(remove: boolean): Promise<null>;
  /** The number of a warm-up, whose it is, and how many loads it may make at a time. */
  warm(
    level: string,
    users: number,
    concurrency: number,
    force: boolean,
    sources: boolean,
  ): readonly [job: number, turn: 0 | 1 | 2, atOnce: number];
  /** JSON of how far it is, once that is another version than `seen`. */
  warming(job: number, seen: number): Promise<string>;
  /** JSON text of one question, or columns of all. */
  askAnalytics(
    questions: string[],
    json: boolean,
    exact: boolean,
    fallback: boolean,
    deadlineMs: number,
  ): Promise<Buffer>;
  /** JSON. */
  orderAnalytics(what: string, source: number, deadlineMs: number): Promise<string>;
  /** JSON of how far a warm is, once that is another version than `seen`. */
  analyticsNews(job: number, seen: number): Promise<string>;
}

export type NativeEngine = Omit<GeneratedEngine, keyof Typed> & Typed;

interface TypedBinding {
  install(makeError: typeof fromNative): void;
  createEngine(variables: string, options: string): NativeEngine;
  defaultEngine(variables: string, warms: boolean): NativeEngine;
  existingEngine(): NativeEngine | null;
  /** The SQL that installs the outbox, or removes it. */
  migrationSql(variables: string, options: string, remove: boolean): string;
}

type Binding = Omit<Generated, keyof TypedBinding> & TypedBinding;

/** The add-on beside this package; `native.js` picks the file for this platform. */
export const binding: Binding = require('../native.js') as unknown as Binding;

binding.install(fromNative);

/** The variables the engine reads, as JSON; nothing else of the environment crosses. */
export function variables(): string {
  const seen: Record<string, string> = {};
  for (const name of binding.variableNames()) {
    const value = process.env[name];
    if (value !== undefined) seen[name] = value;
  }
  return JSON.stringify(seen);
}
