/**
 * Server processes and their temp folders. Knows nothing about what the process serves.
 * Invariant: a process started here never outlives this one, however this one ends; it is ended by its id,
 * together with its direct children, and its temp folder goes with it.
 */
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** @type {Set<Child>} */
const running = new Set();
/** @type {Set<string>} */
const folders = new Set();

process.on('exit', () => {
  for (const child of running) child.signalTree('SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
});

/** @param {string} label @returns {string} a fresh folder, removed when this process ends */
export function temporaryFolder(label) {
  const folder = mkdtempSync(join(tmpdir(), `bcos-${label}-`));
  folders.add(folder);
  return folder;
}

/** @param {string} folder */
export function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  folders.delete(folder);
}

/** @param {number} pid @returns {string | undefined} state letter of a process; undefined when gone or not known */
function processState(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.charAt(stat.lastIndexOf(')') + 2);
  } catch {
    return undefined;
  }
}

const hasProc = existsSync('/proc/self/stat');

/** @param {number} pid */
function isGone(pid) {
  if (hasProc) {
    // In a container nobody may collect orphans: a zombie still has an id, but no memory and no sockets.
    const state = processState(pid);
    return state === undefined || state === 'Z' || state === 'X';
  }
  try {
    process.kill(pid, 0);
    return false;
  } catch {
    return true;
  }
}

/** @param {number} pid @returns {number[]} */
function childrenOf(pid) {
  try {
    const list = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8');
    return list.split(' ').filter(Boolean).map(Number);
  } catch {
    if (hasProc) return [];
  }
  const table = execFileSync('ps', ['-A', '-o', 'pid=,ppid='], { encoding: 'utf8' });
  return table
    .split('\n')
    .map((line) => line.trim().split(/\s+/).map(Number))
    .flatMap(([child, parent]) => (child !== undefined && parent === pid ? [child] : []));
}

/** @param {number} pid @param {NodeJS.Signals} signal */
function send(pid, signal) {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone between listing and signalling: what the caller wants anyway.
  }
}

/**
 * @param {() => boolean | Promise<boolean>} condition
 * @param {number} timeoutMs
 * @param {string | (() => string)} what named in the error
 */
export async function until(condition, timeoutMs, what) {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) {
      throw new Error(`gave up after ${timeoutMs} ms: ${typeof what === 'string' ? what : what()}`);
    }
    await sleep(10);
  }
}

/** `setpriv` makes the kernel end the server even when this process is killed and its handlers never run. */
const deathSignal = process.platform === 'linux' && existsSync('/usr/bin/setpriv');

export class Child {
  /**
   * @param {{ command: string, args: string[], folder: string, env?: NodeJS.ProcessEnv | undefined,
   *   uid?: number | undefined, gid?: number | undefined }} options
   */
  constructor({ command, args, folder, env, uid, gid }) {
    this.logFile = join(folder, 'server.log');
    const log = openSync(this.logFile, 'a');
    const [file, list] = deathSignal
      ? ['/usr/bin/setpriv', ['--pdeathsig', 'KILL', command, ...args]]
      : [command, args];
    this.process = spawn(file, list, {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', log, log],
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
    });
    closeSync(log);
    running.add(this);
    /** @type {Promise<void>} */
    this.exited = new Promise((resolve) => {
      const ended = () => {
        running.delete(this);
        resolve();
      };
      this.process.once('exit', ended);
      this.process.once('error', ended);
    });
    // A script that forgets to stop its servers ends all the same; the exit handler then ends them.
    this.process.unref();
  }

  get alive() {
    return running.has(this);
  }

  get pid() {
    return this.alive ? this.process.pid : undefined;
  }

  /** What the process wrote, and those before it in the same folder. @returns {string} */
  log() {
    try {
      return readFileSync(this.logFile, 'utf8');
    } catch {
      return '';
    }
  }

  /** @returns {string} */
  logTail() {
    return this.log().slice(-2000);
  }

  /** The parent gets the signal first: a stopped or dead parent starts no further child. @param {NodeJS.Signals} signal */
  signalTree(signal) {
    const { pid } = this.process;
    if (pid === undefined || !this.alive) return [];
    if (signal === 'SIGKILL') send(pid, 'SIGSTOP');
    else send(pid, signal);
    const tree = [pid, ...childrenOf(pid)];
    if (signal === 'SIGKILL') for (const member of tree) send(member, signal);
    else for (const member of tree.slice(1)) send(member, signal);
    return tree;
  }

  async pause() {
    if (!this.alive) throw new Error('cannot pause: the server is not running');
    const stopped = this.signalTree('SIGSTOP');
    if (!hasProc) return;
    await until(
      () => stopped.every((pid) => 'TtZX'.includes(processState(pid) ?? 'X')),
      5_000,
      'a process did not stop on SIGSTOP',
    );
  }

  async resume() {
    if (!this.alive) throw new Error('cannot resume: the server is not running');
    this.signalTree('SIGCONT');
  }

  /** Resolves when the process and its children are gone. */
  async kill() {
    if (!this.alive) return;
    this.process.ref();
    const tree = this.signalTree('SIGKILL');
    await this.exited;
    await until(() => tree.every(isGone), 5_000, 'a killed process is still there');
  }
}
