/**
 * A scope: which rows a caller may see. Not the rule that decides it: the native side does.
 * Invariant: only this module makes one, and the instances are frozen, so what holds a scope need not doubt it.
 */

import { ScopeError } from './errors.js';

/**
 * Where the copies of this module, which a bundler or a hot reload may load twice, find what each of them has made. What a
 * client sends cannot get in there, whatever parses or merges it: to be a member takes code that runs in this process, and
 * such code could replace this module as well.
 */
const MADE: unique symbol = Symbol.for('bcos-cache.scopes');

/** Every scope of this process. Looked up by identity: a copy, a proxy or an heir of a scope is none. */
const made: WeakSet<object> = everywhere();

function everywhere(): WeakSet<object> {
  const known: unknown = Reflect.get(globalThis, MADE);
  if (known instanceof WeakSet) return known;
  const own = new WeakSet<object>();
  // Somebody else's value is left alone: the copies then do not recognise each other's, which is the safe side.
  if (known === undefined) Object.defineProperty(globalThis, MADE, { value: own });
  return own;
}

export type Kind = 'nothing' | 'rows' | 'all';

export class Scope {
  declare readonly kind: Kind;
  declare readonly practices: readonly number[];
  declare readonly providers: readonly number[] | null;

  constructor() {
    throw new ScopeError('a Scope cannot be constructed: scopeOf(context) gives the one of a caller');
  }
}

// A class derived by the application keeps the language's own rule.
Object.defineProperty(Scope, Symbol.hasInstance, {
  value(this: unknown, value: unknown): boolean {
    if (this !== Scope) return Function.prototype[Symbol.hasInstance].call(this, value);
    return typeof value === 'object' && value !== null && made.has(value);
  },
});

/** The empty lists are frozen as well: these two are shared by everybody. */
const NONE: readonly number[] = Object.freeze([]);
export const NOTHING = make('nothing', NONE, NONE);
export const ALL = make('all', NONE, null);

/** Rows of these practices; nothing without a practice or with an empty list of providers. */
export function rows(practices: readonly number[], providers: readonly number[] | null): Scope {
  if (practices.length === 0 || providers?.length === 0) return NOTHING;
  return make('rows', practices, providers === null ? null : Object.freeze([...providers]));
}

function make(kind: Kind, practices: readonly number[], providers: readonly number[] | null): Scope {
  const scope = Object.create(Scope.prototype) as {
    -readonly [Name in keyof Scope]: Scope[Name];
  };
  scope.kind = kind;
  scope.practices = practices;
  scope.providers = providers;
  made.add(scope);
  return Object.freeze(scope);
}
