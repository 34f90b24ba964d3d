/**
 * A Redis server whose replies do not belong to the requests: a proxy that loses, repeats or exchanges single replies.
 * Not a fault that breaks the protocol: every byte is a valid reply, only the wrong one.
 * Invariant: requests reach the server unchanged, so what the server holds stays right.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** `lose`: later replies answer the request before theirs. `repeat`: the one after theirs. `exchange`: each other's. */
export type Lie = 'lose' | 'repeat' | 'exchange';

const CRLF = '\r\n';

/** Where the reply that starts at `at` ends; -1 while it is not complete. RESP2. */
function replyEnd(bytes: Buffer, at: number): number {
  const eol = bytes.indexOf(CRLF, at);
  if (eol < 0) return -1;
  const type = String.fromCharCode(bytes[at] ?? 0);
  const size = Number(bytes.toString('latin1', at + 1, eol));
  let end = eol + CRLF.length;
  if (type === '$' && size >= 0) end += size + CRLF.length;
  if (type === '*') {
    for (let left = size; left > 0 && end >= 0; left -= 1) end = replyEnd(bytes, end);
  }
  return end > bytes.length ? -1 : end;
}

export class LyingProxy implements AsyncDisposable {
  readonly host = '127.0.0.1';
  /** How often it lied. */
  lies = 0;
  #lie: Lie | undefined;
  #every = 1;
  #replies = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly listener: Server,
    private readonly target: number,
  ) {
    listener.on('connection', (client) => this.#serve(client));
  }

  static async start(target: number): Promise<LyingProxy> {
    const listener = createServer();
    const proxy = new LyingProxy(listener, target);
    await new Promise<void>((resolve) => listener.listen(0, proxy.host, resolve));
    return proxy;
  }

  get port(): number {
    return (this.listener.address() as AddressInfo).port;
  }

  /** One lie in `every` replies from now on. */
  lie(how: Lie, every: number): void {
    this.#lie = how;
    this.#every = every;
  }

  /** Honest again; connections that are out of step stay so until their client notices. */
  relent(): void {
    this.#lie = undefined;
  }

  #serve(client: Socket): void {
    const server = connect({ host: this.host, port: this.target, noDelay: true });
    client.setNoDelay(true);
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
    client.on('data', (chunk) => server.write(chunk));
    let waiting = Buffer.alloc(0);
    let held: Buffer | undefined;
    server.on('data', (chunk) => {
      waiting = Buffer.concat([waiting, chunk]);
      for (let end = replyEnd(waiting, 0); end > 0; end = replyEnd(waiting, 0)) {
        const reply = waiting.subarray(0, end);
        waiting = waiting.subarray(end);
        const mine = held === undefined ? this.#turn() : undefined;
        if (held !== undefined) {
          client.write(Buffer.concat([reply, held]));
          held = undefined;
        } else if (mine === 'exchange') held = reply;
        else if (mine === 'repeat') client.write(Buffer.concat([reply, reply]));
        else if (mine !== 'lose') client.write(reply);
      }
    });
  }

  #turn(): Lie | undefined {
    this.#replies += 1;
    if (this.#lie === undefined || this.#replies % this.#every !== 0) return undefined;
    this.lies += 1;
    return this.#lie;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.listener.close(resolve));
  }
}
