/**
 * What a permission text says. Not who has which: that is in a context.
 * Invariant: a text that is not understood is refused; it never means "no permission needed".
 */

import { InvalidArgumentError } from './errors.js';

/** Scopes of a permission, each including the ones before it. */
const SCOPES = ['own', 'organization', 'all'] as const;

interface Asked {
  readonly resource: string;
  readonly action: string;
  /** Position in {@link SCOPES}. */
  readonly breadth: number;
}

interface Granted {
  readonly resource: string;
  readonly action: string;
  readonly scope: string;
}

/** `resource:action:scope`. */
export function readPermission(given: unknown): Asked {
  const [resource, action, scope, ...more] = parts(given);
  const breadth = breadthOf(scope);
  if (resource && action && breadth >= 0 && more.length === 0) return { resource, action, breadth };
  throw refused(given, "'resource:action:scope' with the scope own, organization or all");
}

/** `resource:action`, as it came. */
export function readPair(given: unknown): string {
  const [resource, action, ...more] = parts(given);
  if (resource && action && more.length === 0) return given as string;
  throw refused(given, "'resource:action' without a scope: the broadest one that was granted counts");
}

export function allows(granted: Granted, asked: Asked): boolean {
  return (
    granted.resource === asked.resource &&
    granted.action === asked.action &&
    breadthOf(granted.scope) >= asked.breadth
  );
}

/** Every text that these permissions allow: for one look instead of a search. */
export function textsOf(permissions: readonly Granted[]): ReadonlySet<string> {
  const texts = new Set<string>();
  for (const { resource, action, scope } of permissions) {
    // A part that holds the separator could pass for another permission; nobody can ask for it either.
    if (!isPart(resource) || !isPart(action)) continue;
    for (const narrower of SCOPES.slice(0, breadthOf(scope) + 1))
      texts.add(`${resource}:${action}:${narrower}`);
  }
  return texts;
}

/** -1 for a scope that is not known: it grants nothing and cannot be asked for. */
function breadthOf(scope: unknown): number {
  return SCOPES.indexOf(scope as (typeof SCOPES)[number]);
}

function isPart(text: unknown): boolean {
  return typeof text === 'string' && text !== '' && !text.includes(':');
}

function parts(given: unknown): string[] {
  return typeof given === 'string' ? given.split(':') : [];
}

function refused(given: unknown, accepted: string): InvalidArgumentError {
  const shown = typeof given === 'string' ? JSON.stringify(given.slice(0, 80)) : typeof given;
  const message = `permission is not accepted: ${accepted} is expected, ${shown} was given`;
  return new InvalidArgumentError(message, { field: 'permission' });
}
