/**
 * A TCP proxy whose target can change: what clients see of a failover. Connections end, and the next ones reach another
 * server under the old address. It can also hold back what a server says to those who subscribed. Knows no more of the
 * protocol than that. Invariant: after `switchTo` no byte reaches the old target; bytes stay in order.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class SwitchProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(
    private target: number,
    private readonly newsMs: number,
  ) {
    this.#server = createServer((client) => this.#serve(client));
  }

  /** `newsMs`: how much later announcements arrive. */
  static async to(target: number, newsMs = 0): Promise<SwitchProxy> {
    const proxy = new SwitchProxy(target, newsMs);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  switchTo(target: number): void {
    this.target = target;
    for (const socket of this.#sockets) socket.destroy();
  }

  #serve(client: Socket): void {
    const server = connect({ host: '127.0.0.1', port: this.target, noDelay: true });
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
    let subscribed = false;
    client.on('data', (chunk) => {
      subscribed ||= chunk.includes('SUBSCRIBE');
      server.write(chunk);
    });
    server.on('data', (chunk) => {
      if (!subscribed || this.newsMs === 0) client.write(chunk);
      else setTimeout(() => client.destroyed || client.write(chunk), this.newsMs);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
