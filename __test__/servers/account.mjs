/**
 * Whom a server runs as that refuses to run as root. Knows no server.
 * Invariant: a process that is not root keeps its own account.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** @typedef {{ uid: number, gid: number } | undefined} Account undefined: this process's own */

/** Root lends the server another account. @returns {Promise<Account>} */
export async function serverAccount() {
  if (process.getuid?.() !== 0) return undefined;
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(
        ['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)),
      );
      if (uid !== undefined && gid !== undefined) return { uid, gid };
    } catch {
      // No such account: try the next.
    }
  }
  throw new Error('running as root: this server needs an account named `postgres` or `nobody`');
}

/** @param {string} folder @param {Account} account */
export async function handOver(folder, account) {
  if (account) await run('chown', ['-R', `${account.uid}:${account.gid}`, folder]);
}
