/**
 * What this package knows about each context it handed out: its user, its scopes, what it permits. Not a cache:
 * it lasts as long as the context itself, and a context never changes.
 * Invariant: a scope is given for the very object that came from the native side, never for something that
 * looks like it.
 */

import type * as Public from '../index.js';
import { InvalidArgumentError, ScopeError } from './errors.js';
import { allows, readPair, readPermission, textsOf } from './permissions.js';
import { ALL, NOTHING, rows, type Scope } from './scope.js';

/** How far a `resource:action` reaches, in the words of the native side. */
type Reach = 'all' | 'practices' | 'provider';

/** What the native side sends. */
export interface Delivered {
  readonly context: Public.UserContext;
  readonly user: Public.User;
  /** By `resource:action`; `*` stands for every one. Absent = nothing. */
  readonly scopes: { readonly [pair: string]: Reach };
}

class Known {
  /** Built on first use: most requests ask either for permissions or for a scope. */
  #permitted: ReadonlySet<string> | undefined;
  readonly #rows = new Map<Reach, Scope>();

  constructor(readonly delivered: Delivered) {}

  permits(permission: string): boolean {
    this.#permitted ??= textsOf(this.delivered.context.all_permissions);
    return this.#permitted.has(permission);
  }

  scope(pair: string): Scope {
    const { context, scopes } = this.delivered;
    const reach = own(scopes, '*') ?? own(scopes, pair);
    if (reach === 'all') return ALL;
    // A word this build does not know is no grant.
    if (reach !== 'practices' && reach !== 'provider') return NOTHING;
    let scope = this.#rows.get(reach);
    if (scope === undefined) {
      const { accessible_practices: practices, provider_uid: provider } = context;
      // 0 is a provider; null is none, and an own scope without a provider has no rows.
      const providers = reach === 'practices' ? null : provider === null ? [] : [provider];
      scope = rows(practices, providers);
      this.#rows.set(reach, scope);
    }
    return scope;
  }
}

const HANDED_OUT = new WeakMap<object, Known>();

/** Remembers a context; called once for each, when it has been parsed and frozen. */
export function handOut(parsed: object): void {
  const delivered = parsed as Delivered;
  HANDED_OUT.set(delivered.context, new Known(delivered));
}

/** The user of a context that was handed out. */
export function userOf(context: Public.UserContext): Public.User {
  const known = HANDED_OUT.get(context);
  if (known === undefined) throw foreign();
  return known.delivered.user;
}

export function scopeOf(context: Public.UserContext, permission = 'analytics:read'): Scope {
  const pair = readPair(permission);
  const known = HANDED_OUT.get(context);
  if (known === undefined) throw foreign();
  return known.scope(pair);
}

/**
 * Contexts that were handed out are looked at once; any other object may change between two calls, so it is
 * read anew each time.
 */
export function hasPermission(context: Public.UserContext, permission: string): boolean {
  const known = HANDED_OUT.get(context);
  if (known?.permits(permission)) return true;
  const asked = readPermission(permission);
  if (known !== undefined) return known.delivered.context.is_super_admin;
  const permissions: unknown = typeof context === 'object' ? context?.all_permissions : undefined;
  if (!Array.isArray(permissions)) {
    throw new InvalidArgumentError('context is not accepted: an object like a UserContext is expected', {
      field: 'context',
    });
  }
  if (context.is_super_admin === true) return true;
  return context.all_permissions.some((granted) => allows(granted, asked));
}

function own(scopes: Delivered['scopes'], name: string): Reach | undefined {
  return Object.hasOwn(scopes, name) ? scopes[name] : undefined;
}

function foreign(): ScopeError {
  return new ScopeError(
    'context is not accepted: pass the very object that getCachedUserContext or authorizeRequest gave, not a ' +
      'copy and not one of your own making',
    { field: 'context' },
  );
}
