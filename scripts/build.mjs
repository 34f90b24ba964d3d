/**
 * Builds the add-on (release) and the TypeScript. Not an installer: `setup.mjs` does that.
 * Invariant: the add-on file is replaced, never overwritten, because a running process has it mapped.
 */

import { rmSync } from 'node:fs';
import { readdirSync } from 'node:fs';
import { root, run } from './run.mjs';

for (const file of readdirSync(root)) {
  if (file.endsWith('.node')) rmSync(new URL(file, root));
}
run('npx', ['napi', 'build', '--platform', '--release', '--js', 'native.js', '--dts', 'native.d.ts', '--', '--locked']);
run('npx', ['tsc', '-p', 'lib']);
