/** Runs commands of the project's own scripts, in the project's folder, and ends with them when they fail. */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const root = new URL('..', import.meta.url);
export const cwd = fileURLToPath(root);

/** Output goes to stderr, so that a script's own stdout stays clean. */
export function run(command, given, options = {}) {
  const { status, error } = spawnSync(command, given, { cwd, stdio: ['ignore', 2, 2], ...options });
  if (error) throw new Error(`${command} could not be started: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}
