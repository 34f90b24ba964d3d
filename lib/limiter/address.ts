/**
 * Whose request it is, as the name of a bucket: the address that the proxies in front of the application vouch for.
 * Not an authentication, and not what a client says of itself.
 * Invariant: hops are read from the right, only as far as they are trusted, and nothing to the left of the client's
 * own address has any influence. Where no address can be trusted there is no key, never one that is shared.
 */

import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { InvalidArgumentError } from '../errors.js';

export interface RateLimitRequest {
  /** Those of the web, or those of `node:http` with names in lower case. */
  readonly headers:
    | { get(name: string): string | null }
    | Readonly<Record<string, string | readonly string[] | undefined>>;
}

export interface RateLimitKeyOptions {
  /**
   * How many proxies every request passes, or which ones are trusted: addresses and CIDR blocks. A number is right
   * only where nobody can reach the application around them.
   */
  readonly trustedProxies: number | readonly string[];
  /**
   * `x-forwarded-for` when left out. `forwarded` is read by RFC 7239. Of any other exactly one address is expected,
   * which the proxy must set itself whatever the client sent.
   */
  readonly header?: string | undefined;
  /**
   * The address of the connection. Leave the property out where the runtime does not tell it: there, but not known,
   * means that a list of proxies cannot be compared with it, and then nothing is trusted.
   */
  readonly remoteAddress?: string | null | undefined;
}

interface Asked {
  readonly proxies: number | Proxies;
  readonly header: string;
  /** `undefined`: not told; empty: not known although it should be. */
  readonly peer: string | undefined;
}

const FORWARDED_FOR = 'x-forwarded-for';
const OPTIONS: ReadonlySet<PropertyKey> = new Set(['trustedProxies', 'header', 'remoteAddress']);
/** More trusted hops than any real chain has: the rest is not looked at, and there is no key. */
const LONGEST_CHAIN = 64;
/** Of what is longer nothing is read: no proxy writes it. */
const LONGEST_ELEMENT = 1_024;
const LONGEST_ADDRESS = 100;
/** Lists that are kept ready to be compared with. */
const MOST_LISTS = 16;

const HEADER_NAME = /^[\w!#$%&'*+.^`|~-]+$/;
const PREFIX_LENGTH = /^[1-9]\d{0,2}$/;
const WITHOUT_BLANKS = /[^ \t](?:.*[^ \t])?/s;
const BRACKETED = /^\[(.*)\](?::(?:\d{1,5}|_[\w.-]+))?$/;
const WITH_PORT = /^([\d.]+):(?:\d{1,5}|_[\w.-]+)$/;
/** One parameter of a Forwarded element, from where the one before it ended. */
const PARAMETER = /(?:([\w!#$%&'*+.^`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*)))?(?:;[ \t]*|$)/sy;
/** Their last 32 bits are an IPv4 address: the mapped ones, and the well-known prefix of translators (RFC 6052). */
const EMBED_IPV4: ReadonlySet<string> = new Set(['0:0:0:0:0:ffff', '64:ff9b:0:0:0:0']);

/** `ip:203.0.113.7`, `ip:2001:db8:1:2::/64`, or `null` when no address can be trusted. */
export function getRateLimitKey(request: RateLimitRequest, options: RateLimitKeyOptions): string | null {
  const asked = readOptions(options);
  const lines = linesOf(request, asked.header);
  const client = clientOf(asked, lines);
  return client === null ? null : `ip:${bucketOf(client)}`;
}

/**
 * What stands for an address in a key: IPv4 as it is, the /64 of IPv6 because one customer has all of it, always in
 * the same spelling. `null` for what is no address.
 */
export function networkOf(address: string): string | null {
  const read = typeof address === 'string' ? readAddress(address) : null;
  return read === null ? null : bucketOf(read);
}

function clientOf({ proxies, header, peer }: Asked, lines: readonly string[]): string | null {
  const hops = hopsOf(peer, header, lines);
  if (typeof proxies !== 'number') {
    // Without a peer to compare, whoever wrote the header has to be one of the list: of an empty one nobody is.
    return peer === undefined && proxies.isEmpty ? null : behindListed(hops, proxies);
  }
  const written = peer === undefined ? proxies - 1 : proxies;
  // A header with one address has skipped the hops between.
  const skipped = isChain(header) ? written : Math.min(written, peer === undefined ? 0 : 1);
  return skipped < 0 ? null : behindCounted(hops, skipped);
}

function behindCounted(hops: Iterable<string | null>, proxies: number): string | null {
  let left = proxies;
  for (const hop of hops) {
    if (hop === null || left === 0) return hop;
    left -= 1;
  }
  // Fewer hops than proxies: this one came around them.
  return null;
}

function behindListed(hops: Iterable<string | null>, proxies: Proxies): string | null {
  let [last, passed]: [last: string | null, passed: number] = [null, 0];
  for (const hop of hops) {
    if (hop === null || !proxies.include(hop)) return hop;
    passed += 1;
    if (passed > LONGEST_CHAIN) return null;
    last = hop;
  }
  return last;
}

/** From the right, each read when it is asked for; `null` for one that is no address. */
function* hopsOf(
  peer: string | undefined,
  header: string,
  lines: readonly string[],
): Generator<string | null> {
  if (peer !== undefined) yield readAddress(peer);
  if (header === FORWARDED_FOR) {
    for (const hop of fromRight(lines, lastComma)) yield readAddress(hop);
  } else if (header === 'forwarded') {
    for (const element of fromRight(lines, lastUnquotedComma)) yield readForwarded(element);
  } else {
    yield lines.length === 1 ? readAddress(lines[0] ?? '') : null;
  }
}

function isChain(header: string): boolean {
  return header === FORWARDED_FOR || header === 'forwarded';
}

/** The elements of a list in several lines. No more of a line is touched than the elements that are asked for. */
function* fromRight(lines: readonly string[], lastSeparator: (text: string) => number): Generator<string> {
  for (let at = lines.length - 1; at >= 0; at -= 1) {
    const line = lines[at] ?? '';
    for (let end = line.length; end >= 0; ) {
      const separator = lastSeparator(line.slice(0, end));
      yield line.slice(separator + 1, end);
      end = separator;
    }
  }
}

function lastComma(text: string): number {
  return text.lastIndexOf(',');
}

/**
 * From the right as well: the proxy's own element decides where it begins, so a quote that the client left open
 * cannot swallow it.
 */
function lastUnquotedComma(text: string): number {
  let quoted = false;
  for (let at = text.length - 1; at >= 0; at -= 1) {
    if (text[at] === '"') quoted = !quoted || text[at - 1] === '\\';
    else if (text[at] === ',' && !quoted) return at;
  }
  return -1;
}

/** The address of a Forwarded element: of its only `for`, and only when all of the element is understood. */
function readForwarded(element: string): string | null {
  if (element.length > LONGEST_ELEMENT) return null;
  const text = withoutBlanks(element);
  let node: string | undefined;
  PARAMETER.lastIndex = 0;
  while (PARAMETER.lastIndex < text.length) {
    const match = PARAMETER.exec(text);
    if (match === null) return null;
    const [, name, quoted, token] = match;
    if (name?.toLowerCase() !== 'for') continue;
    if (node !== undefined) return null;
    node = quoted?.replace(/\\(.)/gs, '$1') ?? token;
  }
  return node === undefined ? null : readAddress(node);
}

/** IPv4 where it is one in any clothes, else IPv6 without brackets, port and zone. */
function readAddress(text: string): string | null {
  if (text.length > LONGEST_ADDRESS) return null;
  const given = withoutBlanks(text);
  const ipv4 = WITH_PORT.exec(given)?.[1] ?? given;
  if (isIPv4(ipv4)) return ipv4;
  const ipv6 = BRACKETED.exec(given)?.[1] ?? given;
  return isIPv6(ipv6) ? unwrapped(ipv6.replace(/%.*/, '')) : null;
}

function withoutBlanks(text: string): string {
  return WITHOUT_BLANKS.exec(text)?.[0] ?? '';
}

function unwrapped(ipv6: string): string {
  const groups = groupsOf(ipv6);
  if (!EMBED_IPV4.has(hexOf(groups.slice(0, 6)))) return ipv6;
  return groups
    .slice(6)
    .flatMap((group) => [group >> 8, group & 0xff])
    .join('.');
}

function bucketOf(address: string): string {
  if (isIPv4(address)) return address;
  const network = groupsOf(address).slice(0, 4);
  // Four zeros follow, so the run that RFC 5952 shortens is always the one at the end.
  while (network.at(-1) === 0) network.pop();
  return `${hexOf(network)}::/64`;
}

/** The eight groups of an IPv6 address that was found valid. */
function groupsOf(ipv6: string): number[] {
  const [head = [], tail = []] = ipv6
    .split('::')
    .map((part) => (part === '' ? [] : part.split(':').flatMap(group)));
  return [...head, ...new Array<number>(8 - head.length - tail.length).fill(0), ...tail];
}

/** Two groups when it is written like IPv4. */
function group(word: string): number[] {
  if (!word.includes('.')) return [Number.parseInt(word, 16)];
  const [a = 0, b = 0, c = 0, d = 0] = word.split('.').map(Number);
  return [a * 256 + b, c * 256 + d];
}

function hexOf(groups: readonly number[]): string {
  return groups.map((value) => value.toString(16)).join(':');
}

/** Which addresses are trusted. One list per family: a block of IPv6 says nothing of IPv4. */
class Proxies {
  readonly isEmpty: boolean;
  readonly #ipv4 = new BlockList();
  readonly #ipv6 = new BlockList();

  constructor(blocks: readonly string[]) {
    this.isEmpty = blocks.length === 0;
    for (const block of blocks) this.#add(block);
  }

  include(address: string): boolean {
    return isIPv4(address) ? this.#ipv4.check(address, 'ipv4') : this.#ipv6.check(address, 'ipv6');
  }

  #add(block: string): void {
    const [text = '', length, ...more] = block.split('/');
    const width = isIPv4(text) ? 32 : isIPv6(text) && !text.includes('%') ? 128 : 0;
    const bits = length === undefined ? width : PREFIX_LENGTH.test(length) ? Number(length) : 0;
    if (bits === 0 || bits > width || more.length > 0) throw refusedBlock(block);
    // Hops are compared as what they were read as, so a block of embedded IPv4 is one of IPv4.
    const address = width === 128 && bits >= 96 ? unwrapped(text) : text;
    if (!isIPv4(address)) this.#ipv6.addSubnet(address, bits, 'ipv6');
    else if (bits === width - 32) throw refusedBlock(block);
    else this.#ipv4.addSubnet(address, bits - (width - 32), 'ipv4');
  }
}

/** By the text of the list: an application's list is the same at every request. */
const ready = new Map<string, Proxies>();

function proxiesOf(given: readonly unknown[]): Proxies {
  // Read once, so that what is checked is what is used.
  const blocks = Array.from(given, (block) => {
    if (typeof block === 'string') return block;
    throw refusedBlock(block);
  });
  const text = JSON.stringify(blocks);
  const known = ready.get(text);
  if (known !== undefined) return known;
  const proxies = new Proxies(blocks);
  if (ready.size >= MOST_LISTS) ready.clear();
  ready.set(text, proxies);
  return proxies;
}

function readOptions(options: unknown): Asked {
  if (!isPlain(options)) throw refused('options', 'a plain object with trustedProxies is expected');
  const given = new Map<PropertyKey, unknown>();
  for (const name of Reflect.ownKeys(options)) {
    if (!OPTIONS.has(name)) throw refused(String(name), `unknown; known are ${[...OPTIONS].join(', ')}`);
    given.set(name, options[name]);
  }
  const proxies = readTrusted(given.get('trustedProxies'));
  const header = given.get('header') === undefined ? FORWARDED_FOR : given.get('header');
  if (typeof header !== 'string' || !HEADER_NAME.test(header)) {
    throw refused('header', "the name of a header is expected, such as 'cf-connecting-ip'");
  }
  const address = given.get('remoteAddress') ?? undefined;
  if (address !== undefined && typeof address !== 'string') {
    throw refused('remoteAddress', `a string is expected, ${typeof address} was given`);
  }
  const missing = given.has('remoteAddress') && typeof proxies !== 'number' ? '' : undefined;
  return { proxies, header: header.toLowerCase(), peer: address ?? missing };
}

function readTrusted(value: unknown): number | Proxies {
  if (Array.isArray(value)) return proxiesOf(value);
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= LONGEST_CHAIN) {
    return value as number;
  }
  throw refused(
    'trustedProxies',
    `say how many proxies every request passes, as a whole number from 0 to ${LONGEST_CHAIN}, or give a list of their addresses and CIDR blocks`,
  );
}

/** The lines of a header, none when it is not there. */
function linesOf(request: unknown, name: string): readonly string[] {
  const headers: unknown =
    typeof request === 'object' && request !== null && 'headers' in request ? request.headers : undefined;
  if (typeof headers !== 'object' || headers === null) {
    throw refused('request', 'something with headers is expected: a web Request, or a request of node:http');
  }
  const value = fieldOf(headers as Record<string, unknown>, name);
  if (value === undefined || value === null) return [];
  const lines: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (lines.every((line) => typeof line === 'string')) return lines;
  throw refused('request', `its header ${name} is neither text nor a list of texts`);
}

function fieldOf(headers: Readonly<Record<string, unknown>>, name: string): unknown {
  if (typeof headers['get'] === 'function') return headers['get'](name);
  return Object.hasOwn(headers, name) ? headers[name] : undefined;
}

/** An object literal, also one of another realm. */
function isPlain(value: unknown): value is Record<PropertyKey, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

function refusedBlock(block: unknown): InvalidArgumentError {
  const shown = typeof block === 'string' ? JSON.stringify(block.slice(0, 80)) : typeof block;
  const accepted = 'an address or a CIDR block that is not everybody is expected';
  return refused('trustedProxies', `${accepted}, ${shown} was given`);
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
