/**
 * A scope: which rows a caller may see. Not the rule that decides it: the native side does.
 * Invariant: only this module makes one, and the instances are frozen, so what holds a scope need not doubt it.
 */

import { ScopeError } from './errors.js';

/**
 * Registered globally, as for errors, so that two copies of this module recognise each other's scopes. It sits
 * on each instance and not on the prototype: what merely inherits from a scope may say something else.
 */
const BRAND: unique symbol = Symbol.for('bcos-cache.scope');

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
    return typeof value === 'object' && value !== null && Object.hasOwn(value, BRAND);
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
  const scope = Object.create(Scope.prototype, { [BRAND]: { value: true } }) as {
    -readonly [Name in keyof Scope]: Scope[Name];
  };
  scope.kind = kind;
  scope.practices = practices;
  scope.providers = providers;
  return Object.freeze(scope);
}
