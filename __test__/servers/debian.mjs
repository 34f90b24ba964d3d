/**
 * Programs out of Debian packages, unpacked instead of installed: no service, no user and no configuration is left on
 * the system. Not a search: whether a program is missing is decided in `binaries.mjs`.
 * Invariant: everything that is downloaded ends up below the folders that were given.
 */
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** @param {string} scratch @param {string[]} packages @returns {Promise<string[]>} paths of the packages */
async function downloadPackages(scratch, packages) {
  const folder = mkdtempSync(join(scratch, 'deb-'));
  // Root downloads as the user `_apt`, who must be able to write here.
  chmodSync(folder, 0o755);
  const download = () => run('apt-get', ['download', ...packages], { cwd: folder, timeout: 120_000 });
  try {
    await download();
  } catch (error) {
    if (process.getuid?.() !== 0) throw error;
    // A fresh image has no package lists.
    await run('apt-get', ['update'], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeout: 180_000,
    });
    await download();
  }
  return readdirSync(folder).map((name) => join(folder, name));
}

/**
 * Unpacks a package, and the libraries it depends on where the system lacks one.
 * @param {{ name: string, program: string, folder: string, scratch: string }} parts `program`: its path inside
 */
export async function unpackProgram({ name, program, folder, scratch }) {
  const [file] = await downloadPackages(scratch, [name]);
  if (file === undefined) throw new Error('apt-get saved no package');
  await run('dpkg-deb', ['-x', file, folder]);
  const { stdout: missing } = await run('ldd', [join(folder, program)]);
  if (!missing.includes('not found')) return;
  const { stdout: depends } = await run('dpkg-deb', ['-f', file, 'Depends']);
  const names = depends.split(',').map((entry) => entry.trim().split(/[\s:]/, 1)[0] ?? '');
  const libraries = names.filter((entry) => entry.startsWith('lib') && entry !== 'libc6');
  for (const library of await downloadPackages(scratch, libraries))
    await run('dpkg-deb', ['-x', library, folder]);
}

/** The libraries that came with the program, for systems that do not have them. @param {string} folder @returns {NodeJS.ProcessEnv} */
export function libraryEnvironment(folder) {
  const bases = [join(folder, 'usr', 'lib'), join(folder, 'lib')].filter((base) => existsSync(base));
  if (bases.length === 0) return {};
  const folders = bases.flatMap((base) => readdirSync(base).map((name) => join(base, name)));
  return { LD_LIBRARY_PATH: folders.join(delimiter) };
}
