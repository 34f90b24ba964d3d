/**
 * A real PgBouncer in transaction mode in front of a PostgreSQL of `postgres.mjs`: a connection of a client has a
 * server only from the first message of a transaction to its end, the next one may have another.
 * Invariant: it keeps no prepared statements for its clients, as PgBouncer before 1.21 and poolers of hosting
 * offerings do not; whoever survives here survives there.
 */
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { handOver, serverAccount } from './account.mjs';
import { findPgbouncer, pgbouncerIn } from './binaries.mjs';
import { Child, removeFolder, temporaryFolder, until } from './child.mjs';
import { freePort } from './ports.mjs';

const run = promisify(execFile);
const START_TIMEOUT_MS = 10_000;
const PORT_ATTEMPTS = 5;
const CLIENTS = 200;

/**
 * @typedef {import('./index.mjs').Pgbouncer} Pgbouncer
 * @typedef {import('./index.mjs').PgbouncerOptions} PgbouncerOptions
 * @typedef {import('./binaries.mjs').Program} Program
 * @typedef {import('./account.mjs').Account} Account
 */

/** @param {string} version @returns {boolean} whether it could keep prepared statements for its clients */
function keepsStatements(version) {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major > 1 || minor >= 21;
}

/**
 * @param {{ port: number, folder: string, version: string, target: number, poolSize: number, ignored: string[] }} parts
 * @returns {string}
 */
function configuration({ port, folder, version, target, poolSize, ignored }) {
  const settings = {
    listen_addr: '127.0.0.1',
    listen_port: port,
    unix_socket_dir: '',
    pidfile: join(folder, 'pgbouncer.pid'),
    auth_type: 'trust',
    auth_file: join(folder, 'users.txt'),
    admin_users: 'postgres',
    pool_mode: 'transaction',
    default_pool_size: poolSize,
    max_client_conn: CLIENTS,
    ignore_startup_parameters: ignored.join(','),
    ...(keepsStatements(version) ? { max_prepared_statements: 0 } : {}),
  };
  const lines = Object.entries(settings).map(([name, value]) => `${name} = ${value}`);
  return `[databases]\n* = host=127.0.0.1 port=${target}\n[pgbouncer]\n${lines.join('\n')}\n`;
}

/** @implements {Pgbouncer} */
class Pooler {
  /** @type {Child | undefined} */
  #child;
  #stopped = false;

  /** @param {{ program: Program, folder: string, port: number, account: Account }} parts */
  constructor({ program, folder, port, account }) {
    this.program = program;
    this.folder = folder;
    this.port = port;
    this.account = account;
    this.version = program.version;
  }

  get pid() {
    return this.#child?.pid;
  }

  get running() {
    return this.#child?.alive ?? false;
  }

  async launch() {
    const { path, env } = this.program;
    const child = new Child({
      command: path,
      args: [join(this.folder, 'pgbouncer.ini')],
      folder: this.folder,
      env,
      ...this.account,
    });
    this.#child = child;
    const what = () => `PgBouncer on port ${this.port} does not get ready:\n${child.logTail()}`;
    try {
      await until(() => !child.alive || this.#saysReady(), START_TIMEOUT_MS, what);
      if (!child.alive) throw new Error(what());
    } catch (error) {
      await child.kill();
      throw error;
    }
  }

  /** Its note of its process id, which it writes when it listens. */
  #saysReady() {
    try {
      return Number(readFileSync(join(this.folder, 'pgbouncer.pid'), 'utf8')) === this.pid;
    } catch {
      return false;
    }
  }

  #current() {
    if (!this.#child || this.#stopped) throw new Error('the server is stopped');
    return this.#child;
  }

  /** @param {string} url @returns {string} */
  through(url) {
    const pooled = new URL(url);
    pooled.hostname = '127.0.0.1';
    pooled.port = String(this.port);
    return pooled.href;
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
  }

  async restart() {
    await this.#current().kill();
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

/**
 * What was unpacked into the repository is copied: the other account may not be able to enter that.
 * @param {import('./binaries.mjs').PgbouncerProgram} program @param {string} folder @param {Account} account
 * @returns {Promise<Program>}
 */
async function reachable(program, folder, account) {
  if (!account || program.unpacked === undefined) return program;
  const copy = join(folder, 'program');
  await run('cp', ['-R', program.unpacked, copy]);
  return { ...program, ...pgbouncerIn(copy) };
}

/** @param {PgbouncerOptions} options @returns {Promise<Pooler>} */
export async function startPgbouncer({ port: target, poolSize = 2, ignoreStartupParameters = [] }) {
  const [found, account] = await Promise.all([findPgbouncer(), serverAccount()]);
  for (let attempt = 1; ; attempt += 1) {
    const folder = temporaryFolder('pgbouncer');
    const port = await freePort();
    const program = await reachable(found, folder, account);
    const server = new Pooler({ program, folder, port, account });
    try {
      writeFileSync(join(folder, 'users.txt'), '"postgres" ""\n');
      const { version } = program;
      const text = configuration({
        port,
        folder,
        version,
        target,
        poolSize,
        ignored: ignoreStartupParameters,
      });
      writeFileSync(join(folder, 'pgbouncer.ini'), text);
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
