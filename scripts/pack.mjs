/**
 * `npm run pack [-- --binaries FOLDER] [--out FOLDER] [--all] [--built]`: the packages as they are published, as
 * tarballs: the main one, which names those of all platforms as optional dependencies, and one for every platform whose
 * binary is there. Publishes nothing.
 * Invariant: everything is put together aside; the repository's own package.json stays as `npm ci` needs it, without
 * dependencies that nobody has published yet.
 */

import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { cwd, run } from './run.mjs';
import { setup, step } from './setup.mjs';

function options() {
  try {
    return parseArgs({
      options: {
        // Where the binaries of other platforms were gathered.
        binaries: { type: 'string', default: cwd },
        out: { type: 'string', default: join(cwd, 'target', 'pack') },
        // A missing platform is an error: for a release.
        all: { type: 'boolean', default: false },
        // Takes what is built, without looking whether it is out of date.
        built: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

/** @param {string} message @returns {never} */
function fail(message) {
  process.stderr.write(`pack: ${message}\n`);
  process.exit(2);
}

/** @param {string} path */
const manifest = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** @param {string} folder @param {object} content */
function writeManifest(folder, content) {
  writeFileSync(join(folder, 'package.json'), `${JSON.stringify(content, null, 2)}\n`);
}

const { binaries, out, all, built } = options();
if (!built) setup();
const main = manifest(join(cwd, 'package.json'));
const platforms = readdirSync(join(cwd, 'npm')).sort();
mkdirSync(out, { recursive: true });
const scratch = mkdtempSync(join(tmpdir(), 'bcos-pack-'));
try {
  for (const platform of platforms) packPlatform(platform);
  packMain();
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

/** @param {string} folder */
function pack(folder) {
  run('npm', ['pack', '--ignore-scripts', '--loglevel=error', '--pack-destination', resolve(out)], {
    cwd: folder,
  });
}

/** @param {string} platform */
function packPlatform(platform) {
  const content = manifest(join(cwd, 'npm', platform, 'package.json'));
  const binary = join(resolve(binaries), content.main);
  if (!existsSync(binary)) {
    if (all)
      fail(`${binary} is missing: build it there (npm run build), or name another folder with --binaries`);
    step(`no binary for ${platform}: its package is left out`);
    return;
  }
  const folder = join(scratch, platform);
  cpSync(join(cwd, 'npm', platform), folder, { recursive: true });
  copyFileSync(binary, join(folder, content.main));
  copyFileSync(join(cwd, 'LICENSE'), join(folder, 'LICENSE'));
  writeManifest(folder, { ...content, version: main.version, license: main.license, engines: main.engines });
  pack(folder);
}

/** What is published has the binaries as packages of their own, not beside it. */
function packMain() {
  const folder = join(scratch, 'main');
  mkdirSync(folder);
  const files = main.files.filter((/** @type {string} */ name) => !name.endsWith('.node'));
  for (const name of files) {
    if (!existsSync(join(cwd, name))) fail(`${name} is missing: npm run build makes it`);
    cpSync(join(cwd, name), join(folder, name), { recursive: true });
  }
  const { devDependencies, scripts, napi, ...kept } = main;
  const names = platforms.map((platform) => manifest(join(cwd, 'npm', platform, 'package.json')).name);
  const optionalDependencies = Object.fromEntries(names.map((name) => [name, main.version]));
  writeManifest(folder, { ...kept, files, optionalDependencies });
  pack(folder);
}
