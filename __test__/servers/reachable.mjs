/**
 * A Postgres that another account may run: below a folder of mode 700, such as /root, it may not even look at the
 * programs. Copies them once to where everybody may read. Finds no programs and starts none for good.
 * Invariant: what is run was copied by this account, into a folder that nobody else may write to.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
/** All there is of a Postgres that finds its parts from where it lies. */
const PARTS = ['bin', 'lib', 'share'];

/** @typedef {import('./binaries.mjs').PostgresPrograms} PostgresPrograms */
/** @typedef {import('./account.mjs').Account} Account */

/** By the folder they were found in. @type {Map<string, Promise<PostgresPrograms>>} */
const known = new Map();

/**
 * The programs themselves where the account may run them, or where nothing better can be offered.
 * @param {PostgresPrograms} programs @param {Account} account @returns {Promise<PostgresPrograms>}
 */
export function reachablePrograms(programs, account) {
  const found = known.get(programs.folder) ?? search(programs, account);
  known.set(programs.folder, found);
  return found;
}

/** @param {PostgresPrograms} programs @param {Account} account @returns {Promise<PostgresPrograms>} */
async function search(programs, account) {
  if (!account || (await mayRun(programs.folder, account))) return programs;
  const prefix = dirname(programs.folder);
  if (!existsSync(join(prefix, 'share', 'postgresql', 'postgres.bki'))) return programs;
  return { ...programs, folder: join(await copied(prefix), 'bin') };
}

/** @param {string} folder @param {Account} account */
async function mayRun(folder, account) {
  try {
    await run(join(folder, 'postgres'), ['--version'], { cwd: '/', ...account });
    return true;
  } catch {
    return false;
  }
}

/** @param {string} prefix of the installation @returns {Promise<string>} */
async function copied(prefix) {
  const { size, mtimeMs } = statSync(join(prefix, 'bin', 'postgres'));
  const name = createHash('sha256').update(`${prefix}\n${size}\n${mtimeMs}`).digest('hex').slice(0, 16);
  const place = join(tmpdir(), `bcos-postgres-${name}`);
  if (isOwn(place)) return place;
  // Nobody else may enter it before it is whole, and nobody else may write to it ever.
  const scratch = mkdtempSync(`${place}-`);
  try {
    for (const part of PARTS) await run('cp', ['-R', join(prefix, part), scratch]);
    await run('chmod', ['-R', 'u+rwX,go-w,go+rX', scratch]);
    try {
      renameSync(scratch, place);
    } catch (cause) {
      // Another process was faster, or somebody else has taken the name.
      if (!isOwn(place)) throw new Error(`${place} is in the way: remove it`, { cause });
    }
    return place;
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** @param {string} place @returns {boolean} */
function isOwn(place) {
  const found = lstatSync(place, { throwIfNoEntry: false });
  return found?.isDirectory() === true && found.uid === process.getuid?.() && (found.mode & 0o022) === 0;
}
