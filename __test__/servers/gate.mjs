/**
 * One connection's request filter: splits both byte streams into frames, has each request judged, and puts answers
 * of its own between those of the server. Does no I/O.
 * Invariant: replies leave in the order of their requests, whoever gave them.
 */
import { decodeRequest, frameEnd, Inbox } from './resp.mjs';
import { crossSlot, encodeReply } from './serverless.mjs';
import { keySlot, keysOf } from './slots.mjs';

/**
 * @typedef {import('./serverless.mjs').Reply} Reply
 * @typedef {{ local: Reply } | { frames: number, confirms: boolean, rewrite?: ((frame: Buffer) => Buffer) | undefined,
 *   name: string, protocol?: 2 | 3 | undefined }} Slot
 * @typedef {{ upstream: Buffer, client: Buffer }} Output
 */

const SUBSCRIPTIONS = /^[PS]?(UN)?SUBSCRIBE$/;
const MESSAGES = new Set(['message', 'pmessage', 'smessage', 'invalidate']);
const OVERSIZE = 512 * 1024 * 1024;
const DISCARD = Buffer.from('*1\r\n$7\r\nDISCARD\r\n');

/** First element of an array or push, when it is a bulk string. @param {Buffer} frame */
function firstElement(frame) {
  const header = frame.toString('latin1', 0, 40);
  return /^[*>]\d+\r\n\$\d+\r\n(\w+)\r\n/.exec(header)?.[1] ?? '';
}

export class Gate {
  #requests = new Inbox();
  #replies = new Inbox();
  /** @type {Slot[]} requests whose reply has not left yet */
  #pending = [];
  /** @type {2 | 3} */
  #protocol = 2;
  /** Channels by kind: an UNSUBSCRIBE without arguments is confirmed once for each. @type {Map<string, Set<string>>} */
  #channels = new Map();
  /** @type {{ spoiled: Reply | undefined, slots: Set<number> } | undefined} an open MULTI */
  #transaction;

  /** @param {() => import('./serverless.mjs').Rules | undefined} rules asked anew for every request */
  constructor(rules) {
    this.rules = rules;
  }

  /** @param {Buffer} chunk @returns {Output} */
  fromClient(chunk) {
    this.#requests.push(chunk);
    const bytes = this.#requests.waiting;
    if (bytes.length > OVERSIZE) throw new Error('request too large');
    /** @type {Buffer[]} */
    const upstream = [];
    let at = 0;
    for (;;) {
      const request = decodeRequest(bytes, at);
      if (!request) break;
      const raw = bytes.subarray(at, request.end);
      at = request.end;
      if (request.args.length === 0) continue;
      const forwarded = this.#accept(request.args, raw);
      if (forwarded) upstream.push(forwarded);
    }
    this.#requests.consume(at);
    return { upstream: Buffer.concat(upstream), client: Buffer.concat(this.#ownReplies()) };
  }

  /** @param {Buffer[]} args @param {Buffer} raw @returns {Buffer | undefined} what to send to the server */
  #accept(args, raw) {
    const name = (args[0] ?? '').toString().toUpperCase();
    const rules = this.rules();
    const verdict = rules?.judge(args);
    if (this.#transaction && name === 'EXEC' && rules) {
      const { spoiled, slots } = this.#transaction;
      const reply = spoiled ?? (rules.slots && slots.size > 1 ? new Error(crossSlot) : undefined);
      this.#transaction = undefined;
      if (reply !== undefined) {
        this.#forward(name, args, () => Buffer.from(encodeReply(reply, this.#protocol)));
        return DISCARD;
      }
    } else if (verdict && 'reply' in verdict) {
      // A server drops a transaction one of whose commands it could not queue.
      if (this.#transaction && verdict.reply instanceof Error) {
        this.#transaction.spoiled = new Error('EXECABORT Transaction discarded because of previous errors.');
      }
      this.#pending.push({ local: verdict.reply });
      return undefined;
    }
    if (name === 'MULTI') this.#transaction = { spoiled: undefined, slots: new Set() };
    else if (name === 'EXEC' || name === 'DISCARD') this.#transaction = undefined;
    else if (this.#transaction && rules?.slots) {
      for (const key of keysOf(args)) this.#transaction.slots.add(keySlot(key));
    }
    this.#forward(name, args, verdict && 'rewrite' in verdict ? verdict.rewrite : undefined);
    return raw;
  }

  /** @param {string} name @param {Buffer[]} args @param {((frame: Buffer) => Buffer) | undefined} rewrite */
  #forward(name, args, rewrite) {
    const confirms = SUBSCRIPTIONS.test(name);
    const protocol = name === 'HELLO' && args[1] ? (args[1].toString() === '3' ? 3 : 2) : undefined;
    const frames = confirms ? this.#confirmations(name, args.slice(1).map(String)) : 1;
    this.#pending.push({ frames, confirms, rewrite, name, protocol });
  }

  /** @param {string} name @param {string[]} channels @returns {number} */
  #confirmations(name, channels) {
    const kind = name.replace('UN', '');
    const open = this.#channels.get(kind) ?? new Set();
    this.#channels.set(kind, open);
    if (kind === name) for (const channel of channels) open.add(channel);
    else if (channels.length > 0) for (const channel of channels) open.delete(channel);
    else {
      const count = Math.max(1, open.size);
      open.clear();
      return count;
    }
    return Math.max(1, channels.length);
  }

  /** @param {Buffer} chunk @returns {Buffer} for the client */
  fromServer(chunk) {
    this.#replies.push(chunk);
    const bytes = this.#replies.waiting;
    /** @type {Buffer[]} */
    const out = [];
    let at = 0;
    while (at < bytes.length) {
      const end = frameEnd(bytes, at);
      if (end < 0) break;
      out.push(this.#settle(bytes.subarray(at, end)), ...this.#ownReplies());
      at = end;
    }
    this.#replies.consume(at);
    return Buffer.concat(out);
  }

  /** @param {Buffer} frame @returns {Buffer} */
  #settle(frame) {
    const slot = this.#pending[0];
    // Without a slot: the gate was put in while the reply was on its way.
    if (!slot || 'local' in slot || this.#isMessage(frame, slot)) return frame;
    const failed = frame[0] === 0x2d;
    slot.frames = failed ? 0 : slot.frames - 1;
    if (slot.frames === 0) this.#pending.shift();
    if (slot.protocol !== undefined && !failed) this.#protocol = slot.protocol;
    if (slot.name === 'RESET' && !failed) this.#protocol = 2;
    return slot.rewrite ? slot.rewrite(frame) : frame;
  }

  /** Something nobody asked for. @param {Buffer} frame @param {{ confirms: boolean }} slot */
  #isMessage(frame, slot) {
    const isPush = frame[0] === 0x3e;
    const subscribed = [...this.#channels.values()].some((channels) => channels.size > 0) || slot.confirms;
    if (isPush) return !slot.confirms || MESSAGES.has(firstElement(frame));
    return this.#protocol === 2 && subscribed && MESSAGES.has(firstElement(frame));
  }

  /** @returns {Buffer[]} own answers whose turn it is */
  #ownReplies() {
    const out = [];
    for (let slot = this.#pending[0]; slot && 'local' in slot; slot = this.#pending[0]) {
      this.#pending.shift();
      out.push(Buffer.from(encodeReply(slot.local, this.#protocol)));
    }
    return out;
  }
}
