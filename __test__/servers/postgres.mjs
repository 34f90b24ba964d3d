/**
 * A real PostgreSQL server over TCP with trust authentication, tuned to forget: for tests, benchmarks and the demo.
 * Invariant: data of a start is a private copy of a cached template; the server never runs as root.
 */
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder, findPostgres, intoCache } from './binaries.mjs';
import { Child, removeFolder, temporaryFolder, until } from './child.mjs';
import { freePort } from './ports.mjs';

const run = promisify(execFile);
const START_TIMEOUT_MS = 20_000;
const PORT_ATTEMPTS = 5;
const POOL_SIZE = 4;

/** @typedef {import('./index.mjs').PostgresServer} PostgresServer */
/** @typedef {{ uid: number, gid: number } | undefined} Account undefined: this process's own */

/** PostgreSQL refuses to run as root, so root lends it another account. @returns {Promise<Account>} */
async function serverAccount() {
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
  throw new Error('running as root: PostgreSQL needs an account named `postgres` or `nobody`');
}

/** @param {string} folder @param {Account} account */
async function handOver(folder, account) {
  if (account) await run('chown', ['-R', `${account.uid}:${account.gid}`, folder]);
}

/** @param {import('./binaries.mjs').PostgresPrograms} programs @param {Account} account @returns {Promise<string>} */
async function template(programs, account) {
  const entry = `pg-template-${programs.version}`;
  const path = join(cacheFolder, entry);
  if (existsSync(path)) return path;
  // Made outside of the repository: the other account may not be able to enter that.
  const scratch = temporaryFolder('initdb');
  try {
    const data = join(scratch, 'data');
    await handOver(scratch, account);
    const args = ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
    await run(join(programs.folder, 'initdb'), args, { cwd: scratch, ...account }).catch((cause) => {
      throw new Error(
        `initdb failed. Running as root, the programs in ${programs.folder} must be reachable for other users ` +
          `(a folder below /root is not); PG_BIN names another place.\n${cause.stderr ?? ''}`,
        { cause },
      );
    });
    await intoCache(entry, (folder) => run('cp', ['-R', `${data}/.`, folder]).then(() => undefined));
    return path;
  } finally {
    removeFolder(scratch);
  }
}

async function loadDriver() {
  try {
    const module = await import('pg');
    return module.default;
  } catch (cause) {
    throw new Error('query() of a test server needs the package `pg` (npm install --save-dev pg)', { cause });
  }
}

/** @param {number} port @returns {string[]} */
function commandLine(port) {
  const settings = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    // A killed server loses nothing that the kernel has, so commits still survive `kill()`.
    fsync: 'off',
    full_page_writes: 'off',
    max_wal_size: '4GB',
    shared_buffers: '128MB',
    max_connections: '100',
    timezone: 'UTC',
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return ['-p', String(port), ...options];
}

/** @implements {PostgresServer} */
class Postgres {
  /** @type {Child | undefined} */
  #child;
  /** @type {Promise<import('pg').Pool> | undefined} */
  #pool;
  #stopped = false;

  /** @param {{ programs: import('./binaries.mjs').PostgresPrograms, folder: string, port: number, account: Account }} parts */
  constructor({ programs, folder, port, account }) {
    this.programs = programs;
    this.folder = folder;
    this.data = join(folder, 'data');
    this.account = account;
    this.port = port;
    this.version = programs.version;
    this.url = this.urlOf('postgres');
  }

  /** @param {string} database */
  urlOf(database) {
    return `postgres://postgres@127.0.0.1:${this.port}/${encodeURIComponent(database)}`;
  }

  get pid() {
    return this.#child?.pid;
  }

  get running() {
    return this.#child?.alive ?? false;
  }

  async launch() {
    const child = new Child({
      command: join(this.programs.folder, 'postgres'),
      args: ['-D', this.data, ...commandLine(this.port)],
      folder: this.folder,
      ...this.account,
    });
    this.#child = child;
    const what = () => `PostgreSQL on port ${this.port} does not get ready:\n${child.logTail()}`;
    try {
      await until(() => !child.alive || this.#saysReady(), START_TIMEOUT_MS, what);
      if (!child.alive) throw new Error(what());
    } catch (error) {
      await child.kill();
      throw error;
    }
  }

  /** The server's own note: its first line is the process id, its eighth the state. */
  #saysReady() {
    try {
      const lines = readFileSync(join(this.data, 'postmaster.pid'), 'utf8').split('\n');
      return Number(lines[0]) === this.pid && lines[7]?.trim() === 'ready';
    } catch {
      return false;
    }
  }

  #current() {
    if (!this.#child || this.#stopped) throw new Error('the server is stopped');
    return this.#child;
  }

  async #connections() {
    this.#pool ??= loadDriver().then((pg) => {
      const pool = new pg.Pool({ connectionString: this.url, max: POOL_SIZE, allowExitOnIdle: true });
      // A killed server breaks idle connections; the pool drops them, and the next query opens another.
      pool.on('error', () => undefined);
      return pool;
    });
    return this.#pool;
  }

  async #disconnect() {
    const pool = this.#pool;
    this.#pool = undefined;
    await (await pool?.catch(() => undefined))?.end();
  }

  /** @param {string} sql @param {unknown[]} [params] */
  async query(sql, params) {
    this.#current();
    const pool = await this.#connections();
    const result = await pool.query(sql, params);
    // Several statements in one text give several results; the last one answers.
    return (Array.isArray(result) ? result.at(-1) : result).rows;
  }

  /** @param {string} name */
  async createDatabase(name) {
    await this.query(`CREATE DATABASE "${name.replaceAll('"', '""')}"`);
    return this.urlOf(name);
  }

  async pause() {
    await this.#current().pause();
  }

  async resume() {
    await this.#current().resume();
  }

  async kill() {
    await this.#child?.kill();
    await this.#disconnect();
  }

  /** Same port, same data: what was committed is there again after crash recovery. */
  async restart() {
    const child = this.#current();
    await child.kill();
    await this.#disconnect();
    await this.launch();
  }

  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.kill();
    removeFolder(this.folder);
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }
}

/** @returns {Promise<Postgres>} */
export async function startPostgres() {
  const [programs, account] = await Promise.all([findPostgres(), serverAccount()]);
  const source = await template(programs, account);
  for (let attempt = 1; ; attempt += 1) {
    const folder = temporaryFolder('postgres');
    const server = new Postgres({ programs, folder, port: await freePort(), account });
    try {
      await run('cp', ['-R', source, server.data]);
      chmodSync(server.data, 0o700);
      await handOver(folder, account);
      await server.launch();
      return server;
    } catch (error) {
      await server.stop();
      const taken = error instanceof Error && /in use/i.test(error.message);
      if (!taken || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}
