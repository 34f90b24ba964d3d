/**
 * `--only rbac`: contexts while they are cached, when they are not, and when a role changes. Nothing is measured here; the
 * parts are, one a file.
 */

import { coldContext } from './cold.mjs';
import { nearContext, validatedContext } from './context.mjs';
import { roleChange } from './role-change.mjs';

/** @type {import('./report.mjs').Measurement['run']} */
export async function rbac(conditions) {
  const tables = [];
  for (const part of [nearContext, validatedContext, coldContext, roleChange])
    tables.push(...(await part(conditions)));
  return tables;
}
