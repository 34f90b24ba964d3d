/**
 * A TCP proxy whose target can change: what clients see of a failover. Connections end, and the next ones reach another
 * server under the old address. Knows no protocol. Invariant: after `switchTo` no byte reaches the old target.
 */
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class SwitchProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(private target: number) {
    this.#server = createServer((client) => {
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
        socket.pipe(other);
      }
    });
  }

  static async to(target: number): Promise<SwitchProxy> {
    const proxy = new SwitchProxy(target);
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

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
