/**
 * The optional SQL of the outbox: its text, and running it, for the command line. Not part of the public surface.
 * Invariant: it talks to the source only; no store is connected, and nothing is voided by running it.
 */

import type * as Public from '../index.js';
import { optionsJson } from './engines.js';
import { binding, variables } from './native.js';

const CLOSING_MS = 1_000;

/** The SQL that installs the outbox, or removes it. */
export function migrationSql(options: Public.EngineOptions, remove: boolean): string {
  return binding.migrationSql(variables(), optionsJson(options), remove);
}

/** Runs it on the database of the configuration. */
export async function migrate(options: Public.EngineOptions, remove: boolean): Promise<void> {
  const alone = { ...options, cacheStore: 'none', cacheTailEnabled: false } as const;
  const engine = binding.createEngine(variables(), optionsJson(alone));
  try {
    await engine.migrate(remove);
  } finally {
    await engine.close(CLOSING_MS);
  }
}
