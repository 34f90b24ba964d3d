/**
 * A TCP proxy on loopback with faults that can be changed while it runs. Understands the Redis protocol only while
 * commands are refused (so not through TLS); otherwise any bytes pass.
 * Invariant: a fault applies to open and to new connections alike, from the moment `set` returns.
 */
import { randomBytes } from 'node:crypto';
import { connect, createServer } from 'node:net';
import { Gate } from './gate.mjs';
import { freePort } from './ports.mjs';
import { listRules, serverlessRules } from './serverless.mjs';

/** @typedef {import('./index.mjs').Faults} Faults */
/** @typedef {import('./index.mjs').FaultProxy} FaultProxy */
/** @typedef {import('node:net').Socket} Socket */

class Connection {
  /** Replies that wait for their time, in order. @type {{ due: number, chunk: Buffer | undefined }[]} */
  #outgoing = [];
  /** @type {NodeJS.Timeout | undefined} */
  #timer;
  /** A stream that lost bytes can never be read again: the connection stays silent until its client gives up. */
  #lost = false;
  /** @type {Gate | undefined} */
  #gate;

  /** @param {TcpProxy} proxy @param {Socket} client */
  constructor(proxy, client) {
    this.proxy = proxy;
    this.client = client;
    this.server = connect({ host: '127.0.0.1', port: proxy.target, noDelay: true });
    client.setNoDelay(true);
    client.on('data', (chunk) => this.#guarded(() => this.#request(chunk)));
    client.on('drain', () => this.server.resume());
    client.on('end', () => this.server.end());
    client.on('error', () => this.close());
    client.on('close', () => this.close());
    this.server.on('data', (chunk) => this.#guarded(() => this.#reply(chunk)));
    this.server.on('drain', () => client.resume());
    // A silent server stays silent: with the replies swallowed, its end is not to be seen either.
    this.server.on('end', () => this.#lost || this.#queue(undefined));
    this.server.on('error', () => this.#lost || this.close());
  }

  /** @param {() => void} work */
  #guarded(work) {
    try {
      work();
    } catch {
      // Bytes that are no protocol frame: the other side would hang up on them too.
      this.close();
    }
  }

  get #silent() {
    if (this.proxy.faults.blackhole) this.#lost = true;
    return this.#lost;
  }

  get #filter() {
    if (this.proxy.rules) this.#gate ??= new Gate(() => this.proxy.rules);
    return this.#gate;
  }

  /** @param {Buffer} chunk */
  #request(chunk) {
    if (this.#silent) return;
    const gate = this.#filter;
    const { upstream, client } = gate ? gate.fromClient(chunk) : { upstream: chunk, client: undefined };
    if (upstream.length > 0 && !this.server.write(upstream)) this.client.pause();
    if (client && client.length > 0) this.#queue(client);
  }

  /** @param {Buffer} chunk */
  #reply(chunk) {
    if (this.#silent) return;
    const gate = this.#filter;
    const reply = gate ? gate.fromServer(chunk) : chunk;
    if (reply.length > 0) this.#queue(reply);
  }

  /** @param {Buffer | undefined} chunk undefined: the end */
  #queue(chunk) {
    const { delayMs = 0 } = this.proxy.faults;
    this.#outgoing.push({ due: performance.now() + delayMs, chunk });
    if (this.#timer === undefined) this.#flush();
  }

  #flush() {
    this.#timer = undefined;
    for (let next = this.#outgoing[0]; next; next = this.#outgoing[0]) {
      const wait = next.due - performance.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#flush(), wait);
        return;
      }
      this.#outgoing.shift();
      if (next.chunk) this.#deliver(next.chunk);
      else this.client.end();
    }
  }

  /** @param {Buffer} chunk */
  #deliver(chunk) {
    if (this.#silent || this.client.destroyed) return;
    const { garbageReplies, truncateReplies } = this.proxy.faults;
    const bytes = garbageReplies ? randomBytes(chunk.length) : chunk;
    if (truncateReplies) {
      this.client.end(bytes.subarray(0, Math.floor(bytes.length / 2)), () => this.close());
      return;
    }
    if (!this.client.write(bytes)) this.server.pause();
  }

  /** New timings apply to what waits already. @param {number} delayMs */
  retime(delayMs) {
    const latest = performance.now() + delayMs;
    for (const item of this.#outgoing) item.due = Math.min(item.due, latest);
    clearTimeout(this.#timer);
    this.#flush();
  }

  /** As a machine does that has no server on this port. */
  reset() {
    this.client.resetAndDestroy();
    this.close();
  }

  close() {
    clearTimeout(this.#timer);
    this.#outgoing = [];
    this.client.destroy();
    this.server.destroy();
    this.proxy.open.delete(this);
  }
}

/** @implements {FaultProxy} */
class TcpProxy {
  host = /** @type {const} */ ('127.0.0.1');
  /** @type {Faults} */
  faults = {};
  /** @type {import('./serverless.mjs').Rules | undefined} */
  rules;
  /** @type {Set<Connection>} */
  open = new Set();
  /** @type {import('node:net').Server | undefined} */
  #listener;

  /** @param {number} target @param {number} port */
  constructor(target, port) {
    this.target = target;
    this.port = port;
  }

  /** @returns {Promise<void>} */
  #listen() {
    const listener = createServer({ allowHalfOpen: true }, (client) =>
      this.open.add(new Connection(this, client)),
    );
    this.#listener = listener;
    return new Promise((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(this.port, '127.0.0.1', () => {
        listener.unref();
        resolve();
      });
    });
  }

  /** @param {Faults} change named faults change, the others stay */
  async set(change) {
    this.faults = { ...this.faults, ...change };
    const { refuse, refuseConnections, delayMs = 0 } = this.faults;
    if (refuse === undefined) this.rules = undefined;
    else this.rules = refuse === 'serverless' ? serverlessRules(this.port) : listRules(refuse);
    if ('delayMs' in change) for (const connection of this.open) connection.retime(delayMs);
    if (refuseConnections) {
      this.#listener?.close();
      this.#listener = undefined;
      for (const connection of [...this.open]) connection.reset();
    } else if (!this.#listener) {
      await this.#listen();
    }
  }

  /** No faults any more. */
  async reset() {
    this.faults = {};
    await this.set({ delayMs: 0 });
  }

  connections() {
    return this.open.size;
  }

  async stop() {
    this.#listener?.close();
    this.#listener = undefined;
    for (const connection of [...this.open]) connection.close();
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }
}

/** @param {import('./index.mjs').ProxyOptions} options @returns {Promise<TcpProxy>} */
export async function startProxy({ port, ...faults }) {
  const proxy = new TcpProxy(port, await freePort());
  await proxy.set(faults);
  return proxy;
}
