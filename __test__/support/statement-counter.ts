/**
 * Stands in front of a Postgres and counts the statements that really went over the wire, and how often a client waited for
 * an answer. Not a parser of SQL: it only reads message boundaries of the protocol. Invariant: bytes pass unchanged and
 * in order, unless it is told to end connections.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Messages that run something: a simple query, or the execution of a prepared one. */
const RUNS = new Set(['Q', 'E']);
const SSL_REQUEST = 80_877_103;

export class StatementCounter implements AsyncDisposable {
  statements = 0;
  /**
   * What clients sent at once: the letters of the messages that one of them sent between two answers, in the order of
   * their beginning. Each is a round trip.
   */
  readonly flights: string[] = [];
  /** So many of the next statements reach the server, and their connection ends in place of the answer. */
  losing = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number) {
    this.#server = createServer((client) =>
      this.#serve(client, connect({ host: '127.0.0.1', port: target })),
    );
  }

  static async start(target: number): Promise<StatementCounter> {
    const counter = new StatementCounter(target);
    await new Promise<void>((resolve) => counter.#server.listen(0, '127.0.0.1', resolve));
    return counter;
  }

  /** The same database, reached through the counter. */
  through(url: string): string {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the counter does not listen');
    const counted = new URL(url);
    counted.port = String(address.port);
    return counted.href;
  }

  #serve(client: Socket, upstream: Socket): void {
    for (const socket of [client, upstream]) {
      this.#sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        this.#sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    let flight: number | undefined;
    let lost = false;
    const read = this.#reader((letter) => {
      flight ??= this.flights.push('') - 1;
      this.flights[flight] += letter;
      if (!RUNS.has(letter)) return;
      this.statements += 1;
      if (this.losing === 0) return;
      this.losing -= 1;
      lost = true;
    });
    client.on('data', (chunk) => {
      read(chunk);
      upstream.write(chunk);
    });
    upstream.on('data', (chunk) => {
      flight = undefined;
      if (lost) client.destroy();
      else client.write(chunk);
    });
    upstream.on('end', () => client.end());
  }

  #reader(seen: (letter: string) => void): (chunk: Buffer) => void {
    let rest = Buffer.alloc(0);
    let started = false;
    return (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      for (;;) {
        // Before the start-up message, messages have no letter.
        const letter = started ? 1 : 0;
        if (rest.length < letter + 4) return;
        const length = letter + rest.readInt32BE(letter);
        if (rest.length < length) return;
        if (started) seen(String.fromCharCode(rest[0] ?? 0));
        else started = rest.readInt32BE(4) !== SSL_REQUEST;
        rest = rest.subarray(length);
      }
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
