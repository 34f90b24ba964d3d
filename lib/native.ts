/**
 * The raw binding, loaded once per environment, and the reading of what it returns. Not the public surface.
 * Invariant: loading connects to nothing and starts no thread.
 */

import type { NativeEngine } from '../native.js';
import { fromNative } from './errors.js';

type Binding = typeof import('../native.js');

/** The add-on beside this package; `native.js` picks the file for this platform. */
export const binding: Binding = require('../native.js') as Binding;

export type { NativeEngine };

/** `null`; the number of an object this side may know; its JSON text when it has no number; or both. */
export type ObjectReply = null | number | string | readonly [serial: number, text: string];

/** The calls of every request, as plain functions: cheaper to call than methods of the binding. */
export interface Hot {
  peekRevoked(tokenId: string): boolean;
  /** Number of the object that may be served without asking; 0 = ask. */
  peekUser(userId: string): number;
  tokenIsBlacklisted(tokenId: string, full: false, deadlineMs: number): Promise<boolean>;
  userById(userId: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  cachedJwt(token: string, full: boolean, deadlineMs: number): Promise<ObjectReply>;
  beginJwt(token: string, full: boolean, deadlineMs: number): Promise<BeginReply>;
}

/** First element of a reply that hands out a loader ticket, or that names somebody else's failed loader. */
export const LEAD = -1;
export const LOADER_FAILED = -2;

export type BeginReply = number | string | readonly [serial: number, textOrLead: string | number];

/** Acknowledged by the store, queued for it, and whether a row was inserted. */
export type InvalidationReply = readonly [acknowledged: boolean, queued: boolean, inserted: boolean | null];

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
