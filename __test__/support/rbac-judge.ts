/**
 * Compares what a caller was told with what the oracle says, and tells the first difference. Not a test runner: it
 * answers texts. Invariant: values are compared by what JSON would carry, the order of the outermost fields included.
 */
import { isDeepStrictEqual } from 'node:util';
import { BcosCacheError, hasPermission, scopeOf, type UserContext } from '../../index.js';
import type { Expected } from './rbac-oracle.js';

/** How a call for a context ended. */
export type Told = { readonly value: UserContext } | { readonly error: unknown };

/** Where two values first differ, as a path and both values. */
export function difference(actual: unknown, expected: unknown, path = ''): string | undefined {
  if (isDeepStrictEqual(actual, expected)) return undefined;
  const inside = (value: unknown): value is Record<string, unknown> =>
    typeof value === 'object' && value !== null;
  if (inside(actual) && inside(expected)) {
    for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      const inner = difference(actual[name], expected[name], `${path}.${name}`);
      if (inner !== undefined) return inner;
    }
  }
  return `${path || 'value'} is ${JSON.stringify(actual)} instead of ${JSON.stringify(expected)}`;
}

function wrongContext(context: UserContext, expected: Expected): string | undefined {
  // Equal texts are equal; only unequal ones are worth a closer look.
  if (JSON.stringify(context) === JSON.stringify(expected.context)) return undefined;
  const names = Object.keys(context);
  return (
    difference(names, Object.keys(expected.context), '(fields)') ?? difference(context, expected.context)
  );
}

function wrongScope(context: UserContext, { scopes, permissions }: Expected): string | undefined {
  for (const [asked, right] of Object.entries(scopes)) {
    const { kind, practices, providers } = scopeOf(context, asked);
    const wrong = difference({ kind, practices, providers }, right, `scope ${asked}`);
    if (wrong !== undefined) return wrong;
  }
  for (const [asked, right] of Object.entries(permissions)) {
    if (hasPermission(context, asked) !== right)
      return `hasPermission ${asked} is ${!right} instead of ${right}`;
  }
  return undefined;
}

/** What is wrong with a refusal that must have this reason. */
export function wrongRefusal(told: Told, reason: 'unknown' | 'inactive' | 'deleted'): string | undefined {
  if ('value' in told) return `a context for a user who is ${reason}`;
  const { error } = told;
  if (!(error instanceof BcosCacheError)) return `rejected with ${String(error)}`;
  const said = { code: error.code, reason: error.reason, field: error.field };
  return difference(said, { code: 'E_NOT_FOUND', reason, field: 'userId' }, 'error');
}

/** What is wrong with what a caller was told; nothing when it is the truth. */
export function wrong(told: Told, expected: Expected): string | undefined {
  if (expected.denied !== null) return wrongRefusal(told, expected.denied);
  if ('error' in told) return `rejected with ${String(told.error)}`;
  try {
    return wrongContext(told.value, expected) ?? wrongScope(told.value, expected);
  } catch (error) {
    return `threw ${String(error)}`;
  }
}
