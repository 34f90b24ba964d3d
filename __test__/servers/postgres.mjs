/**
 * A real PostgreSQL server over TCP with trust authentication, tuned to forget: for tests, benchmarks and the demo.
 * Invariant: data of a start is a private copy of a cached template; the server never runs as root; one with TLS
 * lets nobody in without it.
 */
import { execFile } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { handOver, serverAccount } from './account.mjs';
import { cacheFolder, findPostgres, intoCache } from './binaries.mjs';
import { makeCertificates } from './certificates.mjs';
import { Child, removeFolder, temporaryFolder, until } from './child.mjs';
import { freePort } from './ports.mjs';
import { reachablePrograms } from './reachable.mjs';

const run = promisify(execFile);
const START_TIMEOUT_MS = 20_000;
const PORT_ATTEMPTS = 5;
const POOL_SIZE = 4;
/** Without a line for plain connections those are refused; only the superuser needs no password. */
const TLS_ONLY = 'hostssl all postgres 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n';

/** @typedef {import('./index.mjs').PostgresServer} PostgresServer */
/** @typedef {import('./account.mjs').Account} Account */
/** @typedef {{ ca: string, cert: string, key: string }} Certificates */

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

/** @param {number} port @param {Certificates | undefined} tls @returns {string[]} */
function commandLine(port, tls) {
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
    ...(tls ? { ssl: 'on', ssl_cert_file: tls.cert, ssl_key_file: tls.key } : {}),
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

  /**
   * @param {{ programs: import('./binaries.mjs').PostgresPrograms, folder: string, port: number, account: Account,
   *   tls: Certificates | undefined }} parts
   */
  constructor({ programs, folder, port, account, tls }) {
    this.programs = programs;
    this.folder = folder;
    this.data = join(folder, 'data');
    this.account = account;
    this.port = port;
    this.tls = tls;
    this.ca = tls?.ca;
    this.version = programs.version;
    this.url = this.urlOf('postgres');
  }

  /** @param {string} database */
  urlOf(database) {
    const url = `postgres://postgres@127.0.0.1:${this.port}/${encodeURIComponent(database)}`;
    return this.ca === undefined
      ? url
      : `${url}?sslmode=verify-full&sslrootcert=${encodeURIComponent(this.ca)}`;
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
      args: ['-D', this.data, ...commandLine(this.port, this.tls)],
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
      const pool = new pg.Pool({
        host: '127.0.0.1',
        port: this.port,
        user: 'postgres',
        database: 'postgres',
        max: POOL_SIZE,
        allowExitOnIdle: true,
        // Whatever names its certificate has: these are the queries of whoever started it.
        ...(this.ca === undefined
          ? {}
          : { ssl: { ca: readFileSync(this.ca, 'utf8'), checkServerIdentity: () => undefined } }),
      });
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

  log() {
    return this.#child?.log() ?? '';
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

/** @param {import('./index.mjs').PostgresOptions} [options] @returns {Promise<Postgres>} */
export async function startPostgres({ tls = false, certificateNames } = {}) {
  const [found, account] = await Promise.all([findPostgres(), serverAccount()]);
  const programs = await reachablePrograms(found, account);
  const source = await template(programs, account);
  for (let attempt = 1; ; attempt += 1) {
    const folder = temporaryFolder('postgres');
    const server = new Postgres({
      programs,
      folder,
      port: await freePort(),
      account,
      tls: tls ? makeCertificates(folder, certificateNames) : undefined,
    });
    try {
      await run('cp', ['-R', source, server.data]);
      chmodSync(server.data, 0o700);
      if (tls) writeFileSync(join(server.data, 'pg_hba.conf'), TLS_ONLY);
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
