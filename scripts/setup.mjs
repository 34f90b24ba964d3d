/**
 * Puts a fresh clone into a state where everything runs: dependencies and the built add-on. Does only what
 * is missing or out of date. Invariant: what it installs is what the lock files say.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { root, run } from './run.mjs';
import { missingTool } from './tools.mjs';

const path = (name) => fileURLToPath(new URL(name, root));

/** Everything the add-on and the library are made of. */
const SOURCES = ['src', 'crates/core/src', 'lib'];
const FILES = ['Cargo.toml', 'Cargo.lock', 'crates/core/Cargo.toml', 'build.rs', 'package.json'];
const STAMP = 'target/.bcos-built';

/**
 * Checks the tools, installs dependencies, builds when a source changed since the last build.
 * `checks`: the checks of the code will be run as well.
 */
export function setup({ checks = false } = {}) {
  const missing = missingTool({ checks });
  if (missing !== undefined) fail(missing);
  if (!upToDate('node_modules/.package-lock.json', 'package-lock.json')) {
    step('installing dependencies (npm ci)');
    run('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error']);
  }
  const fingerprint = fingerprintOfSources();
  const built = existsSync(path(STAMP)) && readFileSync(path(STAMP), 'utf8') === fingerprint;
  if (
    !built ||
    !existsSync(path('dist/index.js')) ||
    !readdirSync(path('.')).some((name) => name.endsWith('.node'))
  ) {
    step('building the add-on (release; a few minutes the first time)');
    run(process.execPath, ['scripts/build.mjs']);
    writeFileSync(path(STAMP), fingerprint);
  }
}

/** One line of progress on stderr. */
export function step(text) {
  process.stderr.write(`> ${text}\n`);
}

function fail(text) {
  process.stderr.write(`${text}\n`);
  process.exit(1);
}

function upToDate(made, from) {
  return existsSync(path(made)) && statSync(path(made)).mtimeMs >= statSync(path(from)).mtimeMs;
}

function fingerprintOfSources() {
  const hash = createHash('sha256');
  for (const folder of SOURCES) {
    for (const name of readdirSync(path(folder), { recursive: true }).map(String).sort()) {
      const file = path(`${folder}/${name}`);
      if (statSync(file).isFile()) hash.update(name).update(readFileSync(file));
    }
  }
  for (const file of FILES) hash.update(readFileSync(path(file)));
  return hash.digest('hex');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) setup({ checks: process.argv.includes('--checks') });
