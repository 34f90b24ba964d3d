/**
 * The Redis protocol as far as tests need it: frame boundaries, decoding, encoding, and a one-connection client.
 * Not a client to measure or to build on: no pooling, no redirects, no reconnect in the background.
 * Invariant: replies settle commands in the order in which they were sent.
 */
import { readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';

const CRLF = '\r\n';
const COMMAND_TIMEOUT_MS = 10_000;

/** @typedef {string | number | Uint8Array} Argument */
/** @typedef {{ args: Buffer[], end: number }} Request */

/**
 * Bytes received and not consumed yet. Grows by doubling, so that a large frame in many chunks is copied only a few
 * times; memory once handed out as a slice is never written again.
 */
export class Inbox {
  /** @type {Buffer} */
  #bytes = Buffer.alloc(0);
  #start = 0;
  #end = 0;

  /** @param {Buffer} chunk */
  push(chunk) {
    const waiting = this.#end - this.#start;
    if (waiting === 0) {
      this.#bytes = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      return;
    }
    if (this.#end + chunk.length > this.#bytes.length) {
      const larger = Buffer.alloc(2 * (waiting + chunk.length));
      this.#bytes.copy(larger, 0, this.#start, this.#end);
      this.#bytes = larger;
      this.#start = 0;
      this.#end = waiting;
    }
    this.#end += chunk.copy(this.#bytes, this.#end);
  }

  get waiting() {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** @param {number} count */
  consume(count) {
    this.#start += count;
  }
}

/** An error reply; `code` is its first word. */
export class ReplyError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = 'ReplyError';
    this.code = message.split(' ', 1)[0] ?? '';
  }
}

/**
 * @param {Buffer} buffer @param {number} at
 * @returns {number} where the frame that starts at `at` ends, -1 when it is not complete
 */
export function frameEnd(buffer, at) {
  let position = at;
  for (let remaining = 1; remaining > 0; remaining -= 1) {
    const eol = buffer.indexOf(CRLF, position);
    if (eol < 0) return -1;
    const type = String.fromCharCode(buffer[position] ?? 0);
    const length = () => Number(buffer.toString('latin1', position + 1, eol));
    let next = eol + 2;
    if ('$=!'.includes(type)) {
      const size = length();
      if (size >= 0) next += size + 2;
    } else if ('*~>'.includes(type)) {
      remaining += Math.max(0, length());
    } else if (type === '%') {
      remaining += 2 * length();
    } else if (type === '|') {
      // An attribute comes in front of the value that it describes.
      remaining += 2 * length() + 1;
    } else if (!'+-:_#,('.includes(type)) {
      throw new Error(`not a reply: it starts with ${JSON.stringify(type)}`);
    }
    if (next > buffer.length) return -1;
    position = next;
  }
  return position;
}

/** @param {Buffer} buffer @param {number} at @returns {{ value: unknown, end: number }} */
export function decode(buffer, at) {
  const eol = buffer.indexOf(CRLF, at);
  const type = String.fromCharCode(buffer[at] ?? 0);
  const line = buffer.toString('utf8', at + 1, eol);
  const next = eol + 2;
  switch (type) {
    case '+':
      return { value: line, end: next };
    case '-':
      return { value: new ReplyError(line), end: next };
    case ':':
      return { value: Number(line), end: next };
    case '$': {
      const size = Number(line);
      if (size < 0) return { value: null, end: next };
      return { value: buffer.toString('utf8', next, next + size), end: next + size + 2 };
    }
    case '*': {
      const size = Number(line);
      if (size < 0) return { value: null, end: next };
      const values = [];
      let end = next;
      for (let index = 0; index < size; index += 1) {
        const item = decode(buffer, end);
        values.push(item.value);
        end = item.end;
      }
      return { value: values, end };
    }
    default:
      throw new Error(`not a RESP2 reply: it starts with ${JSON.stringify(type)}`);
  }
}

/** @param {readonly Argument[]} args @returns {Buffer} */
export function encodeCommand(args) {
  const parts = [Buffer.from(`*${args.length}${CRLF}`)];
  for (const arg of args) {
    const bytes = typeof arg === 'object' ? Buffer.from(arg) : Buffer.from(String(arg));
    parts.push(Buffer.from(`$${bytes.length}${CRLF}`), bytes, Buffer.from(CRLF));
  }
  return Buffer.concat(parts);
}

/** @param {Buffer} buffer @param {number} at @returns {Request | undefined} undefined when not complete */
export function decodeRequest(buffer, at) {
  const eol = buffer.indexOf(CRLF, at);
  if (eol < 0) return undefined;
  const line = buffer.toString('latin1', at, eol);
  if (!line.startsWith('*')) {
    const words = line.split(' ').filter(Boolean);
    return { args: words.map((word) => Buffer.from(word, 'latin1')), end: eol + 2 };
  }
  /** @type {Buffer[]} */
  const args = [];
  let end = eol + 2;
  for (let left = Number(line.slice(1)); left > 0; left -= 1) {
    const lengthEnd = buffer.indexOf(CRLF, end);
    if (lengthEnd < 0) return undefined;
    if (buffer[end] !== 0x24) throw new Error('not a request: an argument is not a bulk string');
    const start = lengthEnd + 2;
    const stop = start + Number(buffer.toString('latin1', end + 1, lengthEnd));
    if (stop + 2 > buffer.length) return undefined;
    args.push(buffer.subarray(start, stop));
    end = stop + 2;
  }
  return { args, end };
}

/**
 * @typedef {{ resolve: (value: unknown) => void, reject: (error: Error) => void }} Waiter
 * @typedef {{ host?: string | undefined, port: number, ca?: string | undefined, username?: string | undefined,
 *   password?: string | undefined, timeoutMs?: number | undefined }} ClientOptions
 */

export class RespClient {
  /** @param {ClientOptions} options `ca`: path of a certificate authority; given, the connection uses TLS */
  constructor(options) {
    this.options = options;
    /** @type {import('node:net').Socket | undefined} */
    this.socket = undefined;
    /** @type {Waiter[]} */
    this.waiting = [];
    this.received = new Inbox();
  }

  #open() {
    const { host = '127.0.0.1', port, ca, username, password } = this.options;
    const socket =
      ca === undefined
        ? connectTcp({ host, port, noDelay: true })
        : connectTls({ host, port, ca: readFileSync(ca) });
    this.socket = socket;
    this.received = new Inbox();
    socket.on('data', (chunk) => {
      if (this.socket === socket) this.#receive(chunk);
    });
    socket.on('error', (error) => this.#fail(socket, error));
    socket.on('close', () => this.#fail(socket, new Error(`connection to ${host}:${port} closed`)));
    if (password !== undefined) {
      const login = username === undefined ? ['AUTH', password] : ['AUTH', username, password];
      this.#send(login).catch((error) => this.#fail(socket, error));
    }
  }

  /** @param {Buffer} chunk */
  #receive(chunk) {
    this.received.push(chunk);
    try {
      for (let bytes = this.received.waiting; bytes.length > 0; bytes = this.received.waiting) {
        const end = frameEnd(bytes, 0);
        if (end < 0) break;
        const { value } = decode(bytes, 0);
        this.received.consume(end);
        const waiter = this.waiting.shift();
        if (value instanceof Error) waiter?.reject(value);
        else waiter?.resolve(value);
      }
    } catch (error) {
      if (this.socket) this.#fail(this.socket, error instanceof Error ? error : new Error(String(error)));
    }
    if (this.waiting.length === 0) this.socket?.unref();
  }

  /** @param {import('node:net').Socket} socket @param {Error} error */
  #fail(socket, error) {
    if (this.socket !== socket) return;
    this.socket = undefined;
    socket.destroy();
    for (const waiter of this.waiting.splice(0)) waiter.reject(error);
  }

  /** @param {readonly Argument[]} args @returns {Promise<unknown>} */
  #send(args) {
    const { socket } = this;
    if (!socket) return Promise.reject(new Error('connection closed'));
    const { timeoutMs = COMMAND_TIMEOUT_MS } = this.options;
    socket.ref();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(socket, new Error(`no reply to ${args[0]} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.waiting.push({
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
      socket.write(encodeCommand(args));
    });
  }

  /** @param {Argument[]} args @returns {Promise<unknown>} */
  async command(...args) {
    if (!this.socket) this.#open();
    return this.#send(args);
  }

  close() {
    if (this.socket) this.#fail(this.socket, new Error('client closed'));
  }
}
