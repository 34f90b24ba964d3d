/** `npm run demo`: set-up, then the demo, with its arguments and its exit code. */

import { spawnSync } from 'node:child_process';
import { cwd } from './run.mjs';
import { setup } from './setup.mjs';

setup();
const { status } = spawnSync(process.execPath, ['demo/run.mjs', ...process.argv.slice(2)], {
  cwd,
  stdio: 'inherit',
});
process.exit(status ?? 1);
