/**
 * One Valkey or Redis server: standalone, or a node that `cluster.mjs` joins with others.
 * Invariant: nothing is persisted, so a restarted server is an empty one; port and arguments stay the same.
 */
import { join } from 'node:path';
import { findRedis, findValkey } from './binaries.mjs';
import { makeCertificates } from './certificates.mjs';
import { Child, removeFolder, temporaryFolder, until } from './child.mjs';
import { BUS_OFFSET, freePort } from './ports.mjs';
import { RespClient } from './resp.mjs';

const START_TIMEOUT_MS = 10_000;
const PORT_ATTEMPTS = 5;

/**
 * @typedef {import('./index.mjs').ValkeyOptions} ValkeyOptions
 * @typedef {import('./index.mjs').Server} Server
 * @typedef {import('./binaries.mjs').Program} Program
 * @typedef {{ port: number, folder: string, cluster: boolean, tls: { ca: string, cert: string, key: string } | undefined,
 *   acl: { username: string, password: string } | undefined, args: string[] }} Settings
 */

/** @param {Settings} settings @returns {string[]} */
function commandLine({ port, folder, cluster, tls, acl, args }) {
  const list = [
    '--bind',
    '127.0.0.1',
    '--dir',
    folder,
    '--save',
    '',
    '--appendonly',
    'no',
    '--protected-mode',
    'no',
  ];
  if (tls) {
    list.push('--port', '0', '--tls-port', String(port), '--tls-auth-clients', 'no');
    list.push('--tls-ca-cert-file', tls.ca, '--tls-cert-file', tls.cert, '--tls-key-file', tls.key);
  } else {
    list.push('--port', String(port));
  }
  if (acl) {
    list.push('--user', 'default', 'off');
    list.push('--user', acl.username, 'on', `>${acl.password}`, '~*', '&*', '+@all');
  }
  if (cluster) {
    list.push('--cluster-enabled', 'yes', '--cluster-config-file', join(folder, 'nodes.conf'));
    list.push('--cluster-port', String(port + BUS_OFFSET), '--cluster-node-timeout', '1500');
    // A dead shard must not stop the others, and a replica must take over however long it was cut off.
    list.push('--cluster-require-full-coverage', 'no', '--cluster-replica-validity-factor', '0');
    list.push('--cluster-allow-replica-migration', 'no', '--repl-diskless-sync-delay', '0');
  }
  return [...list, ...args];
}

/** @implements {Server} */
export class ValkeyServer {
  host = /** @type {const} */ ('127.0.0.1');
  /** @type {Child | undefined} */
  #child;
  #stopped = false;

  /** @param {'valkey' | 'redis'} kind @param {Program} program @param {Settings} settings */
  constructor(kind, program, settings) {
    this.kind = kind;
    this.version = program.version;
    this.port = settings.port;
    this.ca = settings.tls?.ca;
    this.program = program;
    this.settings = settings;
    this.client = new RespClient({ port: settings.port, ca: this.ca, ...settings.acl });
    /** @type {Record<string, string>} */
    this.env = {
      REDIS_HOST: this.host,
      REDIS_PORT: String(settings.port),
      ...(settings.tls ? { REDIS_TLS: 'true' } : {}),
      ...(settings.acl
        ? { REDIS_USERNAME: settings.acl.username, REDIS_PASSWORD: settings.acl.password }
        : {}),
    };
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
      args: commandLine(this.settings),
      folder: this.settings.folder,
      env,
    });
    this.#child = child;
    const answers = () =>
      this.client.command('PING').then(
        () => true,
        () => false,
      );
    const what = () => `${this.kind} on port ${this.port} does not answer:\n${child.logTail()}`;
    try {
      await until(async () => !child.alive || (await answers()), START_TIMEOUT_MS, what);
      // Another server on this port may have answered in place of a child that could not bind.
      if (!child.alive) throw new Error(what());
    } catch (error) {
      await child.kill();
      throw error;
    }
  }

  /** @param {import('./resp.mjs').Argument[]} args */
  async command(...args) {
    if (this.#stopped) throw new Error('the server is stopped');
    return this.client.command(...args);
  }

  #current() {
    if (!this.#child || this.#stopped) throw new Error('the server is stopped');
    return this.#child;
  }

  async pause() {
    await this.#current().pause();
  }

  async resume() {
    await this.#current().resume();
  }

  async kill() {
    await this.#child?.kill();
    this.client.close();
  }

  async restart() {
    await this.#current().kill();
    this.client.close();
    await this.launch();
  }

  async stop() {
    if (this.#stopped) return;
    this.#stopped = true;
    await this.kill();
    removeFolder(this.settings.folder);
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }
}

/** @param {ValkeyOptions & { cluster?: boolean }} options @returns {Promise<ValkeyServer>} */
export async function startNode({ kind, port, args = [], tls = false, acl, cluster = false }) {
  // The Valkey that can be fetched is built without TLS; Debian's Redis has it.
  const chosen = kind ?? (tls ? 'redis' : 'valkey');
  const program = await (chosen === 'redis' ? findRedis() : findValkey());
  for (let attempt = 1; ; attempt += 1) {
    const folder = temporaryFolder(chosen);
    const server = new ValkeyServer(chosen, program, {
      port: port ?? (await freePort()),
      folder,
      cluster,
      tls: tls ? makeCertificates(folder) : undefined,
      acl,
      args,
    });
    try {
      await server.launch();
      return server;
    } catch (error) {
      await server.stop();
      // Between the choice and the bind another process may have taken the port.
      const taken = error instanceof Error && /in use/i.test(error.message);
      if (!taken || port !== undefined || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** @param {ValkeyOptions} [options] */
export function startValkey(options = {}) {
  return startNode({ ...options, cluster: false });
}
