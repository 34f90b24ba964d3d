/**
 * Builds the add-on (release) and the TypeScript. Not an installer: `setup.mjs` does that.
 * Invariant: the add-on is built aside and moved into place, because a running process has the old file
 * mapped and a starting one must find a whole one.
 */

import { mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cwd, run } from './run.mjs';

const aside = join(cwd, 'target', 'napi');
rmSync(aside, { recursive: true, force: true });
mkdirSync(aside, { recursive: true });
run('npx', [
  'napi',
  'build',
  '--platform',
  '--release',
  '--js',
  'native.js',
  '--dts',
  'native.d.ts',
  '--output-dir',
  aside,
  '--',
  '--locked',
]);
for (const file of readdirSync(aside)) renameSync(join(aside, file), join(cwd, file));
run('npx', ['tsc', '-p', 'lib']);
