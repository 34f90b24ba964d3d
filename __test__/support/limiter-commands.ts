/**
 * What a server was asked to do with rate limits: every script call that reached it, read from MONITOR. Not what became of
 * it. Invariant: after `settled` nothing that the server had begun before is missing.
 */
import { randomUUID } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import type { Server } from '../servers/index.mjs';
import { until } from './engines.js';

export interface LimiterCommand {
  readonly keys: readonly string[];
  /** `consume`, `merge` and so on; `all` of a check of several limits. */
  readonly action: string;
}

export class LimiterCommands implements AsyncDisposable {
  readonly seen: LimiterCommand[] = [];
  readonly #echoes = new Set<string>();
  #rest = '';

  private constructor(
    private readonly server: Server,
    private readonly socket: Socket,
  ) {
    socket.setEncoding('latin1').on('data', (text: string) => this.#receive(text));
    socket.on('error', () => socket.destroy());
  }

  static async watch(server: Server): Promise<LimiterCommands> {
    const socket = connect({ host: server.host, port: server.port });
    const commands = new LimiterCommands(server, socket);
    socket.write('*1\r\n$7\r\nMONITOR\r\n');
    await commands.settled();
    return commands;
  }

  /** Resolves when everything that reached the server before was seen. */
  async settled(): Promise<void> {
    await until('the server tells what it is asked', async () => {
      const echo = randomUUID();
      await this.server.command('ECHO', echo);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return this.#echoes.has(echo);
    });
  }

  /** How often each key was named with this action. */
  count(action: string): Map<string, number> {
    const counts = new Map<string, number>();
    for (const one of this.seen) {
      if (one.action !== action) continue;
      for (const key of one.keys) counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return counts;
  }

  #receive(text: string): void {
    const lines = (this.#rest + text).split('\r\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#line(line);
  }

  #line(line: string): void {
    // What a script does itself is told as "lua".
    if (line.includes(' lua] ')) return;
    const [name = '', first = '', count = '', ...rest] = [...line.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map(
      ([, argument]) => argument as string,
    );
    if (name.toUpperCase() === 'ECHO') this.#echoes.add(first);
    if (!/^EVAL(SHA)?$/i.test(name)) return;
    const keys = rest.slice(0, Number(count));
    if (!keys[0]?.includes('ratelimit:')) return;
    const action = rest[keys.length] ?? '';
    // Checks that travel together are packed; what is packed begins with 0 or 1, which is no letter.
    const packed = !/^[a-z]/.test(action);
    this.seen.push({ keys, action: packed ? 'consume' : /^(ring|coarse)$/.test(action) ? 'all' : action });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.socket.destroy();
  }
}
