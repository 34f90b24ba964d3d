/**
 * Whose request it is for a limit: the address that trusted proxies wrote, whatever the client sent. Thousands of
 * random chains with random lies in front of them, each from one number. Not how often that address may call.
 */
import { describe, expect, it } from 'vitest';
import { createEngine } from '../index.js';
import { InvalidArgumentError } from '../lib/errors.js';
import {
  getRateLimitKey,
  networkOf,
  type RateLimitKeyOptions,
  type RateLimitRequest,
} from '../lib/limiter/address.js';
import { Random } from './support/rbac-data.js';

const SEED = 20_261;
const CASES = 5_000;
const FORWARDED_FOR = 'x-forwarded-for';

const key = (value: string | string[] | undefined, options: RateLimitKeyOptions) =>
  getRateLimitKey({ headers: { [(options.header ?? FORWARDED_FOR).toLowerCase()]: value } }, options);

describe('networkOf', () => {
  it.each([
    ['203.0.113.7', '203.0.113.7'],
    ['0.0.0.0', '0.0.0.0'],
    ['203.0.113.7:50431', '203.0.113.7'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:DB8:0001:0002:0:0:0:1', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::9]', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::9]:443', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8::/64'],
    ['2001:db8:0:7::1', '2001:db8:0:7::/64'],
    ['2001:db8:7:0:0:0:0:1', '2001:db8:7::/64'],
    ['0:0:0:7:1:2:3:4', '0:0:0:7::/64'],
    ['::7:1:2:3:4', '0:0:0:7::/64'],
    ['2001::', '2001::/64'],
    ['::1', '::/64'],
    ['::', '::/64'],
    ['fe80::1%eth0', 'fe80::/64'],
    ['[fe80:0:0:2::1%en0]:80', 'fe80:0:0:2::/64'],
    ['2001:db8:1:2::192.0.2.1', '2001:db8:1:2::/64'],
    ['2001:db8:1:2:3:4:192.0.2.1', '2001:db8:1:2::/64'],
    ['::ffff:203.0.113.7', '203.0.113.7'],
    ['::FFFF:cb00:7107', '203.0.113.7'],
    ['0:0:0:0:0:ffff:203.0.113.7', '203.0.113.7'],
    ['[::ffff:203.0.113.7]:1', '203.0.113.7'],
    ['::ffff:203.0.113.7%eth0', '203.0.113.7'],
    ['64:ff9b::203.0.113.7', '203.0.113.7'],
    ['64:ff9b::cb00:7107', '203.0.113.7'],
    ['64:ff9b:1::cb00:7107', '64:ff9b:1::/64'],
    ['64:ff9b::1:203.0.113.7', '64:ff9b::/64'],
    ['::203.0.113.7', '::/64'],
    ['::ffff:0:203.0.113.7', '::/64'],
    [' 203.0.113.7\t', '203.0.113.7'],
  ])('%s is %s', (address, network) => {
    expect(networkOf(address)).toBe(network);
  });

  it.each([
    '',
    ' ',
    'unknown',
    '_hidden',
    'a b',
    'localhost',
    '203.0.113',
    '203.0.113.07',
    '203.0.113.256',
    '0xcb.0.113.7',
    '3405803783',
    '203.0.113.7:',
    '203.0.113.7:abc',
    '203.0.113.7:123456',
    '203.0.113.7/32',
    '203.0.113.7%eth0',
    '203.0.113.7\n',
    '203.0.113.7, 203.0.113.8',
    '203.0.113.7\u00a0',
    '"203.0.113.7"',
    '[203.0.113.7]',
    '[203.0.113.7]:80',
    '2001:db8::1::2',
    '2001:db8:1:2:3:4:5:6:7',
    '2001:db8::/64',
    '[2001:db8::1',
    '2001:db8::1]',
    '[]',
    '[]:80',
    '[[2001:db8::1]]',
    '[2001:db8::1]80',
    '[2001:db8::1]:80:80',
    'fe80::1%',
    `${' '.repeat(500)}203.0.113.7`,
  ])('%j is no address', (address) => {
    expect(networkOf(address)).toBe(null);
  });

  it('nothing but text is an address', () => {
    for (const value of [undefined, null, 7, {}, ['203.0.113.7']]) {
      expect(networkOf(value as string)).toBe(null);
    }
  });

  it('all spellings of one IPv6 network are one text, and no other network has it', () => {
    const random = new Random(SEED, 1);
    const owners = new Map<string, string>();
    for (let round = 0; round < CASES; round += 1) {
      const groups = ipv6Groups(random);
      const network = networkOf(groups.map((group) => group.toString(16)).join(':'));
      expect([groups, network]).toEqual([groups, bigIntNetwork(groups)]);
      for (let spelling = 0; spelling < 3; spelling += 1) {
        const text = spelled([...groups.slice(0, 4), ...ipv6Groups(random).slice(4)], random);
        expect([text, networkOf(text)]).toEqual([text, network]);
      }
      const owner = groups.slice(0, 4).join(':');
      expect(owners.get(network ?? '') ?? owner).toBe(owner);
      owners.set(network ?? '', owner);
    }
  });
});

describe('a number of proxies', () => {
  const chain = '6.6.6.6, 203.0.113.7, 10.0.0.2,10.0.0.1';
  it.each<[n: number, remoteAddress: string | undefined, expected: string | null]>([
    [0, undefined, null],
    [1, undefined, 'ip:10.0.0.1'],
    [2, undefined, 'ip:10.0.0.2'],
    [3, undefined, 'ip:203.0.113.7'],
    [4, undefined, 'ip:6.6.6.6'],
    [5, undefined, null],
    [0, '10.0.0.0', 'ip:10.0.0.0'],
    [1, '10.0.0.0', 'ip:10.0.0.1'],
    [3, '10.0.0.0', 'ip:203.0.113.7'],
    [4, '::ffff:10.0.0.0', 'ip:6.6.6.6'],
    [5, '10.0.0.0', null],
  ])('%i with the peer %s: %s', (trustedProxies, remoteAddress, expected) => {
    const peer = remoteAddress === undefined ? {} : { remoteAddress };
    expect(key(chain, { trustedProxies, ...peer })).toBe(expected);
  });

  it('without a header there is only the peer', () => {
    for (const value of [undefined, []]) {
      expect(key(value, { trustedProxies: 0, remoteAddress: '203.0.113.7' })).toBe('ip:203.0.113.7');
      expect(key(value, { trustedProxies: 1, remoteAddress: '203.0.113.7' })).toBe(null);
      expect(key(value, { trustedProxies: 1 })).toBe(null);
      expect(key(value, { trustedProxies: 0 })).toBe(null);
    }
  });

  it('a peer that is not known leaves the count as it is, and a peer that is no address ends it', () => {
    for (const remoteAddress of [undefined, null]) {
      expect(key('203.0.113.7, 10.0.0.1', { trustedProxies: 2, remoteAddress })).toBe('ip:203.0.113.7');
      expect(key('203.0.113.7', { trustedProxies: 0, remoteAddress })).toBe(null);
    }
    for (const remoteAddress of ['', 'unix:', 'unknown']) {
      expect(key('203.0.113.7, 10.0.0.1', { trustedProxies: 2, remoteAddress })).toBe(null);
      expect(key('203.0.113.7', { trustedProxies: 0, remoteAddress })).toBe(null);
    }
  });

  it('a hop that is no address ends it, where the client should be and on the way there', () => {
    for (const hop of ['unknown', '_hidden', '', ' ', 'a b', '1.2.3', '"1.2.3.4"', '1.2.3.4;', '\u0000']) {
      expect([hop, key(`6.6.6.6,${hop}`, { trustedProxies: 1 })]).toEqual([hop, null]);
      expect([hop, key(`6.6.6.6,${hop},10.0.0.1`, { trustedProxies: 2 })]).toEqual([hop, null]);
      expect([hop, key(`6.6.6.6,${hop}`, { trustedProxies: 2 })]).toEqual([hop, null]);
      const further = `${hop},203.0.113.7`;
      expect([hop, key(further, { trustedProxies: 1 })]).toEqual([hop, 'ip:203.0.113.7']);
    }
    expect(key(',', { trustedProxies: 1 })).toBe(null);
    expect(key(',203.0.113.7', { trustedProxies: 2 })).toBe(null);
  });

  it('several header lines are one list', () => {
    const lines = ['6.6.6.6', '203.0.113.7, 10.0.0.2', '10.0.0.1'];
    const answers = [1, 2, 3, 4, 5].map((trustedProxies) => key(lines, { trustedProxies }));
    expect(answers).toEqual(['ip:10.0.0.1', 'ip:10.0.0.2', 'ip:203.0.113.7', 'ip:6.6.6.6', null]);
  });

  it('takes the headers of the web and of node:http, and no inherited ones', () => {
    const headers = new Headers({ 'X-Forwarded-For': '6.6.6.6' });
    headers.append('x-forwarded-for', '203.0.113.7');
    expect(getRateLimitKey({ headers }, { trustedProxies: 1 })).toBe('ip:203.0.113.7');
    expect(getRateLimitKey(new Request('http://x.test', { headers }), { trustedProxies: 2 })).toBe(
      'ip:6.6.6.6',
    );
    const bare = Object.assign(Object.create(null), { [FORWARDED_FOR]: '203.0.113.7' });
    expect(getRateLimitKey({ headers: bare }, { trustedProxies: 1 })).toBe('ip:203.0.113.7');
    const inherits = Object.create({ [FORWARDED_FOR]: '203.0.113.7' });
    expect(getRateLimitKey({ headers: inherits }, { trustedProxies: 1 })).toBe(null);
  });
});

describe('a list of proxies', () => {
  const trustedProxies = ['10.0.0.0/8', '192.0.2.1', '2001:db8:f::/48', '2001:db8:e::1'];
  it.each<[value: string | undefined, remoteAddress: string, expected: string | null]>([
    ['6.6.6.6, 203.0.113.7, 10.0.0.2', '10.0.0.1', 'ip:203.0.113.7'],
    ['6.6.6.6, 203.0.113.7, 192.0.2.1, 2001:db8:f:1::9, 2001:db8:e::1', '10.255.0.1', 'ip:203.0.113.7'],
    ['6.6.6.6, 192.0.2.2, 10.0.0.2', '10.0.0.1', 'ip:192.0.2.2'],
    ['6.6.6.6, 2001:db8:e::2, 10.0.0.2', '10.0.0.1', 'ip:2001:db8:e::/64'],
    ['6.6.6.6, 10.0.0.2', '203.0.113.7', 'ip:203.0.113.7'],
    ['10.0.0.3, 10.0.0.2', '10.0.0.1', 'ip:10.0.0.3'],
    [undefined, '10.0.0.1', 'ip:10.0.0.1'],
    [undefined, '203.0.113.7', 'ip:203.0.113.7'],
    ['203.0.113.7', '::ffff:10.0.0.1', 'ip:203.0.113.7'],
    ['203.0.113.7, ::ffff:10.0.0.2', '10.0.0.1', 'ip:203.0.113.7'],
    ['unknown, 203.0.113.7', '10.0.0.1', 'ip:203.0.113.7'],
    ['203.0.113.7, unknown', '10.0.0.1', null],
    ['203.0.113.7, unknown, 10.0.0.2', '10.0.0.1', null],
    ['203.0.113.7,', '10.0.0.1', null],
    ['', '10.0.0.1', null],
    [',10.0.0.2', '10.0.0.1', null],
    ['203.0.113.7', 'unknown', null],
  ])('%s from the peer %s: %s', (value, remoteAddress, expected) => {
    expect(key(value, { trustedProxies, remoteAddress })).toBe(expected);
  });

  it('without the peer it begins with the entry on the right', () => {
    expect(key('6.6.6.6, 203.0.113.7, 10.0.0.2', { trustedProxies })).toBe('ip:203.0.113.7');
    expect(key('6.6.6.6, 203.0.113.7', { trustedProxies })).toBe('ip:203.0.113.7');
    expect(key('10.0.0.2, 10.0.0.1', { trustedProxies })).toBe('ip:10.0.0.2');
    expect(key(undefined, { trustedProxies })).toBe(null);
  });

  it('a peer that should be known and is not could be anybody', () => {
    for (const remoteAddress of [undefined, null]) {
      expect(key('6.6.6.6, 10.0.0.2', { trustedProxies, remoteAddress })).toBe(null);
    }
  });

  it('an empty list trusts nobody', () => {
    expect(key('6.6.6.6', { trustedProxies: [] })).toBe(null);
    expect(key('6.6.6.6', { trustedProxies: [], remoteAddress: '203.0.113.7' })).toBe('ip:203.0.113.7');
  });

  it('an IPv6 block says nothing of IPv4, and a block of mapped addresses is one of IPv4', () => {
    const from = (block: string, remoteAddress: string) =>
      key('203.0.113.7', { trustedProxies: [block], remoteAddress });
    expect(from('::/1', '10.0.0.1')).toBe('ip:10.0.0.1');
    expect(from('::ffff:0:0/95', '::ffff:10.0.0.1')).toBe('ip:10.0.0.1');
    expect(from('::ffff:10.0.0.0/104', '10.9.9.9')).toBe('ip:203.0.113.7');
    expect(from('::ffff:10.0.0.0/104', '11.0.0.0')).toBe('ip:11.0.0.0');
    expect(from('::ffff:10.0.0.1', '::ffff:10.0.0.1')).toBe('ip:203.0.113.7');
    expect(from('64:ff9b::10.0.0.0/120', '10.0.0.255')).toBe('ip:203.0.113.7');
  });

  it('a list that changed is read again', () => {
    const list = ['10.0.0.1'];
    const options = { trustedProxies: list, remoteAddress: '10.0.0.2' };
    expect(key('203.0.113.7', options)).toBe('ip:10.0.0.2');
    list[0] = '10.0.0.2';
    expect(key('203.0.113.7', options)).toBe('ip:203.0.113.7');
    for (let other = 0; other < 40; other += 1) {
      expect(key('203.0.113.7', { ...options, trustedProxies: [`10.1.0.${other}`] })).toBe('ip:10.0.0.2');
    }
    expect(key('203.0.113.7', options)).toBe('ip:203.0.113.7');
  });

  it('belongs to a block what shares its first bits, for every length of both families', () => {
    const random = new Random(SEED, 2);
    let members = 0;
    for (let round = 0; round < CASES; round += 1) {
      const ipv6 = random.upTo(1) === 1;
      const [width, size] = ipv6 ? [128, 16] : [32, 8];
      const base = (ipv6 ? ipv6Groups(random) : ipv4Bytes(random)) as number[];
      const bits = 1 + random.upTo(width - 1);
      // Differs from the base in one bit at most: on one side of the border or on the other.
      const flipped = random.upTo(width);
      const other = base.map((part, at) =>
        Math.floor(flipped / size) === at ? part ^ (1 << (size - 1 - (flipped % size))) : part,
      );
      const text = (parts: number[]) =>
        ipv6 ? parts.map((part) => part.toString(16)).join(':') : parts.join('.');
      const given = { trustedProxies: [`${text(base)}/${bits}`], remoteAddress: text(other) };
      const member = flipped >= bits;
      members += Number(member);
      const expected = member ? 'ip:198.51.100.1' : `ip:${networkOf(text(other))}`;
      expect([given, key('198.51.100.1', given)]).toEqual([given, expected]);
    }
    expect(members).toBeGreaterThan(CASES / 10);
    expect(members).toBeLessThan(CASES - CASES / 10);
  });
});

describe('another header', () => {
  it('holds exactly one address', () => {
    const options = { trustedProxies: 1, header: 'CF-Connecting-IP' };
    expect(key('203.0.113.7', options)).toBe('ip:203.0.113.7');
    expect(key(['203.0.113.7'], options)).toBe('ip:203.0.113.7');
    expect(key('2001:db8::1', { ...options, trustedProxies: 3 })).toBe('ip:2001:db8::/64');
    expect(key('203.0.113.7', { ...options, remoteAddress: '10.0.0.1' })).toBe('ip:203.0.113.7');
    for (const value of ['6.6.6.6, 203.0.113.7', ['6.6.6.6', '203.0.113.7'], ['203.0.113.7', ''], '', 'me']) {
      expect([value, key(value, options)]).toEqual([value, null]);
    }
    expect(key(undefined, options)).toBe(null);
    const headers = new Headers([['cf-connecting-ip', '6.6.6.6']]);
    headers.append('cf-connecting-ip', '203.0.113.7');
    expect(getRateLimitKey({ headers }, options)).toBe(null);
  });

  it('counts only when somebody trusted wrote it', () => {
    const header = 'x-real-ip';
    expect(key('6.6.6.6', { trustedProxies: 0, header })).toBe(null);
    expect(key('6.6.6.6', { trustedProxies: [], header })).toBe(null);
    const [nobody, listed] = [
      { trustedProxies: 0, header },
      { trustedProxies: ['10.0.0.0/8'], header },
    ];
    expect(key('6.6.6.6', { ...nobody, remoteAddress: '203.0.113.7' })).toBe('ip:203.0.113.7');
    expect(key('6.6.6.6', { ...listed, remoteAddress: '203.0.113.7' })).toBe('ip:203.0.113.7');
    expect(key('203.0.113.7', { ...listed, remoteAddress: '10.0.0.1' })).toBe('ip:203.0.113.7');
    expect(key('203.0.113.7', listed)).toBe('ip:203.0.113.7');
    expect(key('203.0.113.7', { ...listed, remoteAddress: null })).toBe(null);
    expect(key(undefined, { ...listed, remoteAddress: '10.0.0.1' })).toBe(null);
  });
});

describe('Forwarded', () => {
  it.each<[value: string, trustedProxies: number, expected: string | null]>([
    ['for=203.0.113.7', 1, 'ip:203.0.113.7'],
    ['For="203.0.113.7:4711"', 1, 'ip:203.0.113.7'],
    ['for="[2001:db8:cafe::17]:4711"', 1, 'ip:2001:db8:cafe::/64'],
    ['for="[2001:db8:cafe::17]:_port"', 1, 'ip:2001:db8:cafe::/64'],
    ['for="203.0.113.7:_a.b-c"', 1, 'ip:203.0.113.7'],
    ['for="203\\.0.113.7"', 1, 'ip:203.0.113.7'],
    ['for=203.0.113.7;proto=http;by=203.0.113.43', 1, 'ip:203.0.113.7'],
    ['proto=http; by="[::1]" ;for=203.0.113.7', 1, null],
    ['proto=http; by="[::1]"; for=203.0.113.7 ', 1, 'ip:203.0.113.7'],
    ['for=6.6.6.6, for=203.0.113.7, for=10.0.0.1;by=10.0.0.0', 2, 'ip:203.0.113.7'],
    ['for=6.6.6.6, for=203.0.113.7;host="a, for=9.9.9.9", for=10.0.0.1', 2, 'ip:203.0.113.7'],
    ['for=6.6.6.6, host="a\\", for=9.9.9.9;for=\\"";for=203.0.113.7', 1, 'ip:203.0.113.7'],
    ['for="6.6.6.6, for=203.0.113.7', 1, 'ip:203.0.113.7'],
    ['for="6.6.6.6\\, for=203.0.113.7', 1, 'ip:203.0.113.7'],
    ['for=203.0.113.7;for=6.6.6.6', 1, null],
    ['for=203.0.113.7;FOR=203.0.113.7', 1, null],
    ['proto=https', 1, null],
    ['by=203.0.113.7', 1, null],
    ['xfor=203.0.113.7', 1, null],
    ['for', 1, null],
    ['for=', 1, null],
    ['for=""', 1, null],
    ['for=unknown', 1, null],
    ['for=_hidden', 1, null],
    ['for="_SEVKISEK"', 1, null],
    ['for=203.0.113.7 203.0.113.8', 1, null],
    ['for="203.0.113.7', 1, null],
    ['for=203.0.113.7"', 1, null],
    ['for="203.0.113.7"x', 1, null],
    ['for=203.0.113.7;"x"', 1, null],
    ['for=203.0.113.7;x', 1, null],
    ['for=203.0.113.7;;proto=http;', 1, 'ip:203.0.113.7'],
    ['for=6.6.6.6, by="x\\\\";for=203.0.113.7, for=10.0.0.1', 2, 'ip:203.0.113.7'],
    ['203.0.113.7', 1, null],
    ['', 1, null],
    [',for=203.0.113.7', 2, null],
    ['for=203.0.113.7,', 1, null],
    ['for=203.0.113.7, for=unknown', 2, null],
    ['for=203.0.113.7', 2, null],
    [`for=203.0.113.7;host="${'a'.repeat(100_000)}"`, 1, null],
  ])('%.80s behind %i: %s', (value, trustedProxies, expected) => {
    expect(key(value, { trustedProxies, header: 'Forwarded' })).toBe(expected);
  });
});

describe('what a client sends', () => {
  it.each([FORWARDED_FOR, 'forwarded'])('in front of the chain in %s never chooses its bucket', (header) => {
    const random = new Random(SEED, header.length);
    for (let round = 0; round < CASES; round += 1) {
      const client = clientAddress(random);
      const proxies = Array.from({ length: random.upTo(4) }, () => proxyAddress(random));
      const written = [client, ...proxies].map((hop) => element(hop, header, random));
      // The rightmost proxy is the peer: what it is called is in no header.
      const peer = proxyAddress(random);
      const value = withLie(random, written);
      const count = written.length;
      const ways: RateLimitKeyOptions[] = [
        { trustedProxies: count },
        { trustedProxies: count, remoteAddress: peer },
        { trustedProxies: TRUSTED },
        { trustedProxies: TRUSTED, remoteAddress: peer },
      ];
      const expected = `ip:${networkOf(client)}`;
      for (const way of ways) {
        expect([value, way, key(value, { ...way, header })]).toEqual([value, way, expected]);
      }
      const headers = new Headers();
      for (const line of typeof value === 'string' ? [value] : value) headers.append(header, line);
      expect([value, getRateLimitKey({ headers }, { trustedProxies: count, header })]).toEqual([
        value,
        expected,
      ]);
      const around = { trustedProxies: TRUSTED, header, remoteAddress: client };
      expect([value, key(value, around)]).toEqual([value, expected]);
      expect(key(value, { trustedProxies: 0, header, remoteAddress: client })).toBe(expected);
    }
  });

  it('is either nobody or one of the hops, whatever it is', () => {
    const random = new Random(SEED, 3);
    let keys = 0;
    for (let round = 0; round < CASES; round += 1) {
      const hops = lie(random);
      for (const header of [FORWARDED_FOR, 'forwarded', 'x-real-ip']) {
        for (const trustedProxies of [1, 2, TRUSTED]) {
          const answer = key(hops, { trustedProxies, header });
          if (answer !== null) expect(answer).toMatch(/^ip:([\d.]{7,15}|[0-9a-f:]+::\/64|::\/64)$/);
          keys += Number(answer !== null);
        }
      }
    }
    expect(keys).toBeGreaterThan(100);
  });

  // Whoever reads all of it needs many seconds for this, whoever backtracks does not come back.
  it.each<[what: string, value: string, expected: string | null]>([
    ['a million hops', `${'6.6.6.6,'.repeat(1_000_000)}203.0.113.7`, 'ip:203.0.113.7'],
    ['a million quotes', `${'"'.repeat(1_000_001)},203.0.113.7`, 'ip:203.0.113.7'],
    ['a million commas', `${','.repeat(1_000_000)}203.0.113.7`, 'ip:203.0.113.7'],
    ['a million spaces', `${' '.repeat(1_000_000)}203.0.113.7`, null],
    ['a million spaces behind', `203.0.113.7${' '.repeat(1_000_000)}x`, null],
    ['a million digits', '1'.repeat(1_000_000), null],
    ['a million colons', `[${':'.repeat(1_000_000)}`, null],
    ['a million dots', `${'1.'.repeat(500_000)}:80`, null],
    ['a million backslashes', `for="${'\\'.repeat(1_000_000)}"`, null],
    ['a million escapes', `for=${'\\"'.repeat(500_000)}"`, null],
    ['a million parameters', 'a=b;'.repeat(250_000), null],
  ])('of %s is not what is read', (_, value, expected) => {
    const forwarded = expected === null ? value : value.replace(/203\.0\.113\.7$/, 'for=$&');
    const started = performance.now();
    for (let call = 0; call < 50; call += 1) {
      expect(key(value, { trustedProxies: 0 })).toBe(null);
      expect(key(value, { trustedProxies: 1 })).toBe(expected);
      expect(key(value, { trustedProxies: ['10.0.0.0/8'] })).toBe(expected);
      expect(key(value, { trustedProxies: 1, header: 'x-real-ip' })).toBe(null);
      expect(key(forwarded, { trustedProxies: 1, header: 'forwarded' })).toBe(expected);
    }
    expect(performance.now() - started).toBeLessThan(2_000);
  });

  it('cannot make a chain of trusted hops longer than any real one', () => {
    const hops = (count: number) => Array.from({ length: count }, () => '10.0.0.1').join();
    expect(key(`203.0.113.7,${hops(64)}`, { trustedProxies: ['10.0.0.0/8'] })).toBe('ip:203.0.113.7');
    expect(key(hops(64), { trustedProxies: ['10.0.0.0/8'] })).toBe('ip:10.0.0.1');
    expect(key(`203.0.113.7,${hops(65)}`, { trustedProxies: ['10.0.0.0/8'] })).toBe(null);
    expect(key(`203.0.113.7,${hops(63)}`, { trustedProxies: 64 })).toBe('ip:203.0.113.7');
    const started = performance.now();
    const endless = hops(100_000);
    for (let call = 0; call < 200; call += 1) {
      expect(key(endless, { trustedProxies: ['10.0.0.0/8'] })).toBe(null);
      expect(key(endless.split(','), { trustedProxies: ['10.0.0.0/8'] })).toBe(null);
    }
    expect(performance.now() - started).toBeLessThan(5_000);
  });
});

describe('is refused, with the field and what to do', () => {
  class Options {
    readonly trustedProxies = 1;
  }
  const request = { headers: {} };
  it.each<[what: string, request: unknown, options: unknown, field: string, fix: RegExp]>([
    ['no options', request, undefined, 'options', /plain object/],
    ['options null', request, null, 'options', /plain object/],
    ['a number as options', request, 1, 'options', /plain object/],
    ['options of a class', request, new Options(), 'options', /plain object/],
    ['no proxies', request, {}, 'trustedProxies', /whole number.*list/],
    ['proxies undefined', request, { trustedProxies: undefined }, 'trustedProxies', /whole number/],
    ['proxies true', request, { trustedProxies: true }, 'trustedProxies', /whole number/],
    ['a number as text', request, { trustedProxies: '1' }, 'trustedProxies', /whole number/],
    ['less than none', request, { trustedProxies: -1 }, 'trustedProxies', /whole number/],
    ['half a proxy', request, { trustedProxies: 1.5 }, 'trustedProxies', /whole number/],
    ['no number', request, { trustedProxies: Number.NaN }, 'trustedProxies', /whole number/],
    ['all proxies', request, { trustedProxies: Number.POSITIVE_INFINITY }, 'trustedProxies', /whole number/],
    ['too many', request, { trustedProxies: 65 }, 'trustedProxies', /64/],
    ['a list as text', request, { trustedProxies: '10.0.0.0/8' }, 'trustedProxies', /list/],
    ['a name', request, { trustedProxies: ['loopback'] }, 'trustedProxies', /"loopback"/],
    ['a number in the list', request, { trustedProxies: [1] }, 'trustedProxies', /number/],
    ['a hole in the list', request, { trustedProxies: new Array(1) }, 'trustedProxies', /undefined/],
    ['everybody', request, { trustedProxies: ['0.0.0.0/0'] }, 'trustedProxies', /everybody/],
    ['everybody of IPv6', request, { trustedProxies: ['::/0'] }, 'trustedProxies', /everybody/],
    ['everybody, mapped', request, { trustedProxies: ['::ffff:0:0/96'] }, 'trustedProxies', /everybody/],
    ['too long a prefix', request, { trustedProxies: ['10.0.0.0/33'] }, 'trustedProxies', /10\.0\.0\.0\/33/],
    ['too long for IPv6', request, { trustedProxies: ['2001:db8::/129'] }, 'trustedProxies', /129/],
    ['no prefix', request, { trustedProxies: ['10.0.0.0/'] }, 'trustedProxies', /CIDR/],
    ['a prefix like 08', request, { trustedProxies: ['10.0.0.0/08'] }, 'trustedProxies', /CIDR/],
    ['two prefixes', request, { trustedProxies: ['10.0.0.0/8/8'] }, 'trustedProxies', /CIDR/],
    ['a mask', request, { trustedProxies: ['10.0.0.0/255.0.0.0'] }, 'trustedProxies', /CIDR/],
    ['a prefix like 1e1', request, { trustedProxies: ['10.0.0.0/1e1'] }, 'trustedProxies', /CIDR/],
    ['a zone', request, { trustedProxies: ['fe80::1%eth0'] }, 'trustedProxies', /CIDR/],
    ['a port', request, { trustedProxies: ['10.0.0.1:80'] }, 'trustedProxies', /CIDR/],
    ['spaces', request, { trustedProxies: [' 10.0.0.1'] }, 'trustedProxies', /CIDR/],
    ['a list in one', request, { trustedProxies: ['10.0.0.1","10.0.0.2'] }, 'trustedProxies', /CIDR/],
    ['an unknown option', request, { trustedProxies: 1, trustProxy: 1 }, 'trustProxy', /trustedProxies/],
    ['a symbol', request, { trustedProxies: 1, [Symbol('x')]: 1 }, 'Symbol(x)', /unknown/],
    ['a header that is none', request, { trustedProxies: 1, header: 'a b' }, 'header', /name of a header/],
    ['no name', request, { trustedProxies: 1, header: '' }, 'header', /name of a header/],
    ['header null', request, { trustedProxies: 1, header: null }, 'header', /name of a header/],
    ['a peer number', request, { trustedProxies: 1, remoteAddress: 7 }, 'remoteAddress', /remoteAddress/],
    ['no request', undefined, { trustedProxies: 1 }, 'request', /headers/],
    ['a request of text', 'x', { trustedProxies: 1 }, 'request', /headers/],
    ['no headers', {}, { trustedProxies: 1 }, 'request', /headers/],
    ['headers null', { headers: null }, { trustedProxies: 1 }, 'request', /headers/],
    ['headers of text', { headers: 'x' }, { trustedProxies: 1 }, 'request', /headers/],
    ['a number', { headers: { [FORWARDED_FOR]: 7 } }, { trustedProxies: 1 }, 'request', /x-forwarded-for/],
    ['numbers', { headers: { [FORWARDED_FOR]: [7] } }, { trustedProxies: 1 }, 'request', /x-forwarded-for/],
  ])('%s', (_, given, options, field, fix) => {
    const call = () => getRateLimitKey(given as RateLimitRequest, options as RateLimitKeyOptions);
    expect(call).toThrow(InvalidArgumentError);
    expect(call).toThrow(expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field }));
    expect(call).toThrow(fix);
  });

  it('a list that was understood does not vouch for one that looks like it', () => {
    expect(key('203.0.113.7', { trustedProxies: ['10.0.0.1', '10.0.0.2'] })).toBe('ip:203.0.113.7');
    for (const list of [['10.0.0.1,10.0.0.2'], ['10.0.0.1\n10.0.0.2'], [{ toJSON: () => '10.0.0.1' }]]) {
      expect(() => key('203.0.113.7', { trustedProxies: list as string[] })).toThrow(InvalidArgumentError);
    }
  });

  it('each option is read once, and what everything inherits is nobody’s option', () => {
    let reads = 0;
    const options = {
      get trustedProxies() {
        reads += 1;
        return reads;
      },
    };
    expect(key('6.6.6.6, 203.0.113.7', options)).toBe('ip:203.0.113.7');
    expect(reads).toBe(1);
    const everything = Object.prototype as unknown as Record<string, unknown>;
    try {
      everything['trustedProxies'] = 1;
      everything['remoteAddress'] = '6.6.6.6';
      everything['header'] = 'x-real-ip';
      expect(() => key('6.6.6.6', {} as RateLimitKeyOptions)).toThrow(InvalidArgumentError);
      expect(getRateLimitKey({ headers: { [FORWARDED_FOR]: '203.0.113.7' } }, { trustedProxies: 1 })).toBe(
        'ip:203.0.113.7',
      );
    } finally {
      for (const name of ['trustedProxies', 'remoteAddress', 'header']) delete everything[name];
    }
  });
});

const TRUSTED = ['10.0.0.0/8', '192.0.2.128/25', '2001:db8:f::/48'];

function ipv4Bytes(random: Random): number[] {
  return Array.from({ length: 4 }, () => random.upTo(255));
}

/** Often with zeros, in runs and alone: where the short forms are. */
function ipv6Groups(random: Random): number[] {
  // The first one keeps clear of the blocks that embed IPv4.
  const group = () => (random.upTo(2) === 0 ? random.upTo(0xffff) : 0);
  return [0x2000 + random.upTo(0xfff), ...Array.from({ length: 7 }, group)];
}

function clientAddress(random: Random): string {
  if (random.upTo(2) === 0) return spelled(ipv6Groups(random).with(1, 0xdb9), random);
  const text = [203, 0, 113, random.upTo(255)].join('.');
  return random.upTo(3) === 0 ? `::ffff:${text}` : text;
}

function proxyAddress(random: Random): string {
  const last = random.upTo(127);
  return random.of([
    `10.${last}.0.1`,
    `192.0.2.${128 + last}`,
    `2001:db8:f::${last}`,
    `::ffff:10.0.0.${last}`,
  ]);
}

/** One of the many texts of an IPv6 address. */
function spelled(groups: number[], random: Random): string {
  const words = groups.map((group) => {
    const text = group.toString(16).padStart(random.upTo(4), '0');
    return random.upTo(1) === 0 ? text : text.toUpperCase();
  });
  const [from, length] = [random.upTo(7), 1 + random.upTo(6)];
  const run = groups.slice(from, from + length);
  if (run.every((group) => group === 0)) {
    return `${words.slice(0, from).join(':')}::${words.slice(from + run.length).join(':')}`;
  }
  if (random.upTo(3) > 0) return words.join(':');
  const [high = 0, low = 0] = groups.slice(6);
  return `${words.slice(0, 6).join(':')}:${[high >> 8, high & 255, low >> 8, low & 255].join('.')}`;
}

/** The /64 by another way than the product's: as one number, shortened as a text. */
function bigIntNetwork(groups: readonly number[]): string {
  const upper = groups.slice(0, 4).reduce((sum, group) => sum * 65_536n + BigInt(group), 0n);
  const words = upper.toString(16).padStart(16, '0').match(/.{4}/g) ?? [];
  const text = words.map((word) => word.replace(/^0{1,3}/, '')).join(':');
  return `${text.replace(/(^|:)0(:0)*$/, '')}::/64`;
}

/** A hop as a proxy may write it. */
function element(hop: string, header: string, random: Random): string {
  const port = random.of(['', `:${random.upTo(65_535)}`]);
  const ipv6 = hop.includes(':');
  if (header === FORWARDED_FOR)
    return ipv6 ? random.of([hop, `[${hop}]`, `[${hop}]${port}`]) : `${hop}${port}`;
  const node = ipv6 ? `[${hop}]${port}` : `${hop}${port}`;
  const quoted = node.includes(':') || random.upTo(1) === 0 ? `"${node}"` : node;
  const before = random.of(['', 'proto=https;', 'host="a, for=6.6.6.6";', 'by="_x\\", for=\\"";']);
  return `${before}${random.of(['for', 'For', 'FOR'])}=${quoted}${random.of(['', ';proto=http', ';host=x.test'])}`;
}

const LIES = [
  '6.6.6.6',
  '10.0.0.1',
  '2001:db8:f::1',
  'for=6.6.6.6',
  'for="10.0.0.1"',
  'for="',
  '"',
  '\\',
  '\\"',
  ';',
  '=',
  '[',
  ']',
  ' ',
  '\t',
  ',',
  ', ,',
  '%',
  'unknown',
  '_hidden',
  ':80',
  '\u00e9',
  '::ffff:10.0.0.1',
  'x'.repeat(300),
];

function lie(random: Random): string {
  return Array.from({ length: random.upTo(12) }, () => random.of(LIES) + random.of(['', ',', ', '])).join('');
}

/** The chain as it arrives, behind whatever the client sent, in one line or in several. */
function withLie(random: Random, written: string[]): string | string[] {
  if (random.upTo(3) === 0) {
    const lies = Array.from({ length: random.upTo(3) }, () => lie(random));
    return [...lies, ...written];
  }
  const chain = written.join(random.of([',', ', ', ' ,\t']));
  return random.upTo(4) === 0 ? chain : `${lie(random)}${random.of([',', ', '])}${chain}`;
}

describe('a list in the configuration', () => {
  const blocks = [
    ...[
      '10.0.0.1',
      '10.0.0.0/8',
      '0.0.0.0/1',
      '10.0.0.0/32',
      '2001:db8::1',
      '2001:db8::/32',
      '::/1',
      '::1/128',
    ],
    ...['::ffff:10.0.0.1', '::ffff:10.0.0.0/104', '::ffff:0:0/97', '::ffff:0:0/95', '64:ff9b::a00:0/104'],
    ...['64:ff9b::/95', '64:ff9b:1::/96', '2001:db8::192.0.2.1/96', '::/96', '::ffff:0:0:0/96'],
    ...[
      '0.0.0.0/0',
      '::/0',
      '10.0.0.0/08',
      '10.0.0.0/',
      '10.0.0.0/33',
      '::1/129',
      '::ffff:0:0/96',
      '64:ff9b::/96',
    ],
    ...[
      '10.0.0/8',
      '010.0.0.1',
      '10.0.0.0/8/8',
      '10.0.0.0/1e1',
      '10.0.0.0/+8',
      'fe80::1%eth0',
      'proxy',
      '10.0.0.1:80',
    ],
  ];
  const accepts = (play: () => unknown): boolean => {
    try {
      play();
      return true;
    } catch (error) {
      expect(['E_CONFIG', 'E_INVALID_ARGUMENT']).toContain((error as { code?: string }).code);
      return false;
    }
  };

  it('is refused at the start exactly when it is refused at a request', async () => {
    const refused: string[] = [];
    for (const block of blocks) {
      const asked = accepts(() => key('203.0.113.7', { trustedProxies: [block] }));
      const started = accepts(() => {
        const engine = createEngine({ cacheStore: 'none', rateLimitTrustedProxies: `10.9.9.9,${block}` });
        void engine.close();
      });
      expect({ block, started }).toEqual({ block, started: asked });
      if (!started) refused.push(block);
    }
    expect(refused.length).toBe(16);
  });
});
