/**
 * A TCP proxy that delays every piece by a random time, in both directions, in order: a network, where the proxy of
 * the test servers is a fault. Knows no protocol. Invariant: bytes arrive complete, in order, and late.
 */

import type { AddressInfo } from 'node:net';
import { connect, createServer, type Server, type Socket } from 'node:net';

function delayed(from: Socket, to: Socket, mostMs: number): void {
  const waiting: { due: number; chunk: Buffer }[] = [];
  const flush = () => {
    for (let next = waiting[0]; next !== undefined; next = waiting[0]) {
      const wait = next.due - performance.now();
      if (wait > 0) {
        setTimeout(flush, wait);
        return;
      }
      waiting.shift();
      if (!to.destroyed) to.write(next.chunk);
    }
  };
  from.on('data', (chunk) => {
    waiting.push({ due: performance.now() + Math.random() * mostMs, chunk });
    if (waiting.length === 1) flush();
  });
  from.on('error', () => to.destroy());
  from.on('close', () => to.destroy());
}

export class JitterProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number, mostMs: number) {
    this.#server = createServer((client) => {
      const server = connect({ host: '127.0.0.1', port: target, noDelay: true });
      client.setNoDelay(true);
      for (const socket of [client, server]) {
        this.#sockets.add(socket);
        socket.once('close', () => this.#sockets.delete(socket));
      }
      delayed(client, server, mostMs);
      delayed(server, client, mostMs);
    });
  }

  static async to(target: number, mostMs: number): Promise<JitterProxy> {
    const proxy = new JitterProxy(target, mostMs);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
