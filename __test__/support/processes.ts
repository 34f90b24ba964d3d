/**
 * Forked Node processes that talk to a spec by messages, one kind of message per step. Not a job runner: a process
 * does what its script says. Invariant: a process started here is ended by its own id and waited for, and none
 * outlives the spec, because its scripts leave when the channel closes.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { join } from 'node:path';

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/** `kind` says which step it belongs to. */
export interface Message {
  readonly kind: string;
  readonly [field: string]: unknown;
}

interface Waiter {
  readonly kind: string;
  resolve(message: Message): void;
  reject(error: Error): void;
}

export class Peer implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #inbox: Message[] = [];
  readonly #waiters = new Set<Waiter>();
  #stderr = '';
  #ending: Ending | undefined;
  readonly ended: Promise<Ending>;

  /** `script` is a file of this folder; `task` is its first message. */
  constructor(script: string, task: object) {
    this.#child = fork(join(__dirname, script), [], {
      execArgv: [],
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
    });
    this.#child.on('message', (message) => this.#receive(message as Message));
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        this.#ending = { code, signal, stderr: this.#stderr };
        for (const waiter of this.#waiters) waiter.reject(this.#gone(waiter.kind));
        resolve(this.#ending);
      });
    });
    this.send({ kind: 'task', ...task });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  send(message: Message): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }

  /** The next message of a kind, also one that came before. Rejects when the process ends without sending it. */
  async next(kind: string): Promise<Message> {
    const index = this.#inbox.findIndex((message) => message.kind === kind);
    const [arrived] = index < 0 ? [] : this.#inbox.splice(index, 1);
    if (arrived !== undefined) return arrived;
    if (this.#ending !== undefined) throw this.#gone(kind);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { kind, resolve, reject };
      this.#waiters.add(waiter);
    });
  }

  /** A question and its answer, which has the same kind. */
  async ask(message: Message): Promise<Message> {
    this.send(message);
    return this.next(message.kind);
  }

  /** SIGSTOP: it neither runs nor ends. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  /** SIGCONT. */
  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  /** SIGKILL; resolves when the process is gone. */
  async kill(): Promise<Ending> {
    if (this.#ending === undefined) this.#child.kill('SIGKILL');
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #receive(message: Message): void {
    for (const waiter of this.#waiters) {
      if (waiter.kind !== message.kind) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(message);
      return;
    }
    this.#inbox.push(message);
  }

  #gone(kind: string): Error {
    const { code, signal, stderr } = this.#ending ?? {};
    return new Error(`the process ended (code ${code}, signal ${signal}) before it sent ${kind}: ${stderr}`);
  }
}
