/**
 * What a client is told of its limits: the header fields, read back by a strict reader of structured fields, and the
 * answer to whoever is denied. Not whether the figures are true: they come as they are.
 */
import { createServer, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Socket } from 'node:net';
import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../lib/errors.js';
import { addRateLimitHeaders } from '../lib/limiter/fields.js';
import { rateLimitResponse } from '../lib/limiter/problem.js';
import { type CombinedRateLimitResult, combine, type RateLimitResult } from '../lib/limiter/result.js';
import { Random } from './support/rbac-data.js';

const SEED = 20_262;
const CASES = 5_000;
const NEVER = Number.POSITIVE_INFINITY;

const admitted = (more: Partial<RateLimitResult> = {}): RateLimitResult => ({
  allowed: true,
  current: 50,
  limit: 100,
  remaining: 50,
  resetTime: 1_800_000_000_001,
  resetAt: 1_800_000_001,
  retryAfterMs: 0,
  replenishAfterMs: 29_001,
  degraded: false,
  type: 'api',
  windowSeconds: 60,
  ...more,
});
const denied = (more: Partial<RateLimitResult> = {}) =>
  admitted({ allowed: false, current: 100, remaining: 0, retryAfterMs: 29_001, ...more });

type Given = RateLimitResult | CombinedRateLimitResult;
const headersOf = (result: Given) => Object.fromEntries(addRateLimitHeaders(new Headers(), result));
const invalid = (field: string) => expect.objectContaining({ code: 'E_INVALID_ARGUMENT', field });

describe('combine', () => {
  const [a, b, c] = ['a', 'b', 'c'].map((type) => ({ type }));

  it.each<[what: string, results: RateLimitResult[], decides: string, allowed: boolean]>([
    ['one', [admitted(a)], 'a', true],
    ['one that is denied', [denied(a)], 'a', false],
    ['the smallest share', [admitted(a), admitted({ ...b, remaining: 9 }), admitted(c)], 'b', true],
    ['a share, not a count', [admitted({ ...a, limit: 10, remaining: 9 }), admitted(b)], 'b', true],
    ['the first of equals', [admitted(a), admitted(b)], 'a', true],
    [
      'no limit left',
      [admitted({ ...a, remaining: 1 }), admitted({ ...b, limit: 0, remaining: 0 })],
      'b',
      true,
    ],
    ['the denied one', [admitted({ ...a, remaining: 0 }), denied({ ...b, remaining: 50 })], 'b', false],
    [
      'the longest wait',
      [denied({ ...a, retryAfterMs: 5 }), denied(b), denied({ ...c, retryAfterMs: 6 })],
      'b',
      false,
    ],
    ['the first of those that wait as long', [denied(a), denied(b)], 'a', false],
    ['never', [denied(a), denied({ ...b, retryAfterMs: NEVER }), admitted(c)], 'b', false],
  ])('%s decides', (_, results, decides, allowed) => {
    const combined = combine(results);
    expect(combined).toEqual({ ...results.find(({ type }) => type === decides), allowed, results });
  });

  it('is degraded when any is, and does not follow its list', () => {
    const results = [admitted({ remaining: 1 }), admitted({ ...b, degraded: true })];
    const combined = combine(results);
    expect(combined).toMatchObject({ type: 'api', degraded: true });
    results.pop();
    expect(combined.results).toHaveLength(2);
    expect(combine([admitted(), admitted()]).degraded).toBe(false);
  });

  it('nothing is not "allowed"', () => {
    expect(() => combine([])).toThrow(invalid('results'));
  });

  it('allows exactly what all allow, and decides by one of them, for random answers', () => {
    const random = new Random(SEED, 1);
    for (let round = 0; round < CASES; round += 1) {
      const results = Array.from({ length: 1 + random.upTo(4) }, (_, at) => anyResult(random, `${at}`));
      const combined = combine(results);
      expect(combined.allowed).toBe(results.every(({ allowed }) => allowed));
      const { results: all, degraded, ...fields } = combined;
      const deciding = results.find(({ type }) => type === combined.type);
      expect({ ...fields, degraded: deciding?.degraded }).toEqual(deciding);
      for (const other of results.filter(({ allowed }) => allowed === combined.allowed)) {
        if (combined.allowed) {
          const [one, another] = [combined.remaining * other.limit, other.remaining * combined.limit];
          expect(one).toBeLessThanOrEqual(another);
        } else expect(combined.retryAfterMs).toBeGreaterThanOrEqual(other.retryAfterMs);
      }
      expect([all, degraded]).toEqual([results, results.some((one) => one.degraded)]);
    }
  });
});

describe('addRateLimitHeaders', () => {
  it('says what is left, of what, and until when', () => {
    expect(headersOf(admitted())).toEqual({
      'x-ratelimit-limit': '100',
      'x-ratelimit-remaining': '50',
      'x-ratelimit-reset': '1800000001',
      ratelimit: '"api";r=50;t=30',
      'ratelimit-policy': '"api";q=100;w=60',
    });
  });

  it('names every limit of a combined answer, and counts by the one that decides', () => {
    const daily = admitted({ type: 'daily', limit: 1_000, remaining: 10, windowSeconds: 86_400 });
    expect(headersOf(combine([admitted(), daily]))).toEqual({
      'x-ratelimit-limit': '1000',
      'x-ratelimit-remaining': '10',
      'x-ratelimit-reset': '1800000001',
      ratelimit: '"api";r=50;t=30, "daily";r=10;t=30',
      'ratelimit-policy': '"api";q=100;w=60, "daily";q=1000;w=86400',
    });
  });

  it.each<[what: string, result: Given, after: string | undefined]>([
    ['admitted', admitted(), undefined],
    ['denied', denied({ retryAfterMs: 29_000, replenishAfterMs: 29_000 }), '29'],
    ['a millisecond more', denied(), '30'],
    ['part of a millisecond more', denied({ retryAfterMs: 29_000.01, replenishAfterMs: 1 }), '30'],
    ['at once', denied({ retryAfterMs: 0, replenishAfterMs: 0 }), '1'],
    ['soon', denied({ retryAfterMs: 1, replenishAfterMs: 1 }), '1'],
    ['never', denied({ retryAfterMs: NEVER }), undefined],
    ['never, and no more', denied({ retryAfterMs: 1, replenishAfterMs: NEVER }), undefined],
    ['for ages', denied({ retryAfterMs: 1e300 }), '999999999999999'],
    ['by one of two', combine([denied({ retryAfterMs: 5_000, replenishAfterMs: 1 }), admitted()]), '5'],
    ['by two', combine([denied({ retryAfterMs: 5_000 }), denied({ retryAfterMs: 60_000 })]), '60'],
    ['by one that never admits it', combine([denied(), denied({ retryAfterMs: NEVER })]), undefined],
    // Whoever comes back for the first one is denied by the second.
    [
      'beside a used up one',
      combine([denied({ retryAfterMs: 5_000, replenishAfterMs: 1 }), admitted({ remaining: 0 })]),
      '30',
    ],
    ['earlier than more is back', denied({ retryAfterMs: 1 }), '30'],
  ])('Retry-After when it is %s', (_, result, after) => {
    expect(headersOf(result)['retry-after']).toBe(after);
  });

  it.each<[replenishAfterMs: number, t: string]>([
    [0, ''],
    [1, ';t=1'],
    [1_000, ';t=1'],
    [1_000.5, ';t=2'],
    [1_001, ';t=2'],
    [NEVER, ''],
    [-5, ''],
    [1e300, ';t=999999999999999'],
  ])('more after %d ms is "%s"', (replenishAfterMs, t) => {
    expect(headersOf(admitted({ replenishAfterMs }))['ratelimit']).toBe(`"api";r=50${t}`);
  });

  it.each<[windowSeconds: number, w: number]>([
    [60, 60],
    [0.25, 1],
    [1.5, 2],
    [0, 1],
    [1e300, 999_999_999_999_999],
  ])('a window of %d s is w=%d', (windowSeconds, w) => {
    expect(headersOf(admitted({ windowSeconds }))['ratelimit-policy']).toBe(`"api";q=100;w=${w}`);
  });

  it('what cannot be a count is made one that promises less', () => {
    const odd = admitted({ limit: 99.9, remaining: -3, resetAt: 10.2 });
    expect(headersOf(odd)).toMatchObject({
      'x-ratelimit-limit': '99',
      'x-ratelimit-remaining': '0',
      'x-ratelimit-reset': '11',
      ratelimit: '"api";r=0;t=30',
      'ratelimit-policy': '"api";q=99;w=60',
    });
    expect(headersOf(admitted({ resetAt: -5 }))['x-ratelimit-reset']).toBe('0');
    expect(headersOf(admitted({ remaining: 4.9 }))['x-ratelimit-remaining']).toBe('4');
    expect(headersOf(admitted({ remaining: 1e21 }))['x-ratelimit-remaining']).toBe('999999999999999');
  });

  it.each([
    ['', '""'],
    ['a b', '"a b"'],
    ['say "hi"', '"say \\"hi\\""'],
    ['back\\slash', '"back\\\\slash"'],
    ['50%', '"50%"'],
    ['größe', '"gr%C3%B6%C3%9Fe"'],
    ['\u{1f600}', '"%F0%9F%98%80"'],
    ['a\r\nSet-Cookie: x=1', '"a%0D%0ASet-Cookie: x=1"'],
    ['\u0000\u001f\u007f\u0080', '"%00%1F%7F%C2%80"'],
    ['\ud83d', '"%EF%BF%BD"'],
    ['\ude00x\ud83d', '"%EF%BF%BDx%EF%BF%BD"'],
    ['\u2028', '"%E2%80%A8"'],
  ])('the name %j is %s', (type, name) => {
    const headers = headersOf(admitted({ type }));
    expect([headers['ratelimit'], headers['ratelimit-policy']]).toEqual([
      `${name};r=50;t=30`,
      `${name};q=100;w=60`,
    ]);
  });

  it('a name is never longer than a header may be', () => {
    const headers = headersOf(admitted({ type: '\u{1f600}'.repeat(100_000) }));
    expect(headers['ratelimit']?.length).toBeLessThan(2_000);
    expect(membersOf(headers['ratelimit'])).toHaveLength(1);
    expect(headersOf(admitted({ type: 'a'.repeat(128) }))['ratelimit']).toContain(`"${'a'.repeat(128)}";`);
  });

  it('is read back by a strict reader, whatever the names and figures are', () => {
    const random = new Random(SEED, 2);
    for (let round = 0; round < CASES; round += 1) {
      const results = Array.from({ length: 1 + random.upTo(3) }, () => anyResult(random, anyText(random)));
      const [single] = results;
      const given = results.length === 1 && single !== undefined ? single : combine(results);
      const headers = headersOf(given);
      for (const value of Object.values(headers)) expect(value).toMatch(/^[\x20-\x7e]*$/);
      const limits = membersOf(headers['ratelimit']);
      const policies = membersOf(headers['ratelimit-policy']);
      expect(limits.map(({ name }) => name)).toEqual(policies.map(({ name }) => name));
      const wellFormed = (text: string) => Buffer.from(text, 'utf8').toString('utf8');
      expect(limits.map(({ name }) => decoded(name))).toEqual(results.map(({ type }) => wellFormed(type)));
      for (const [at, { limit, remaining, replenishAfterMs, windowSeconds }] of results.entries()) {
        const { r, t, ...noMore } = limits[at]?.parameters ?? {};
        const { q, w, ...nothing } = policies[at]?.parameters ?? {};
        expect([r, q, noMore, nothing]).toEqual([remaining, limit, {}, {}]);
        expect(t === undefined).toBe(replenishAfterMs === 0);
        if (t !== undefined) expectRoundedUp(t, replenishAfterMs / 1_000);
        expectRoundedUp(w ?? 0, windowSeconds);
      }
      const after = headers['retry-after'];
      expect(after === undefined).toBe(given.allowed || given.retryAfterMs === NEVER);
      if (after === undefined) continue;
      expect(after).toMatch(/^[1-9]\d*$/);
      expect(Number(after) * 1_000).toBeGreaterThanOrEqual(given.retryAfterMs);
      for (const [at, { remaining }] of results.entries()) {
        if (remaining === 0) expect(Number(after)).toBeGreaterThanOrEqual(limits[at]?.parameters['t'] ?? 0);
      }
    }
  });

  it.each<[what: string, result: unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['text', 'api'],
    ['an empty object', {}],
    ['no type', { ...admitted(), type: undefined }],
    ['a number as type', { ...admitted(), type: 7 }],
    ['allowed as text', { ...admitted(), allowed: 'yes' }],
    ['no limit', { ...admitted(), limit: undefined }],
    ['a limit that is none', { ...admitted(), limit: Number.NaN }],
    ['an endless limit', { ...admitted(), limit: NEVER }],
    ['a remaining as text', { ...admitted(), remaining: '5\r\nx: y' }],
    ['a reset that is none', { ...admitted(), resetAt: Number.NaN }],
    ['no window', { ...admitted(), windowSeconds: Number.NaN }],
    ['a wait that is none', { ...admitted(), replenishAfterMs: Number.NaN }],
    ['a retry as text', { ...denied(), retryAfterMs: '1' }],
    ['no results', { ...admitted(), results: [] }],
    ['results that are none', { ...admitted(), results: 7 }],
    ['a result that is none', { ...admitted(), results: [admitted(), {}] }],
    ['figures that are none beside results', { ...admitted(), limit: Number.NaN, results: [admitted()] }],
    ['a list', [admitted()]],
  ])('refuses %s instead of telling it', (_, result) => {
    const headers = new Headers();
    expect(() => addRateLimitHeaders(headers, result as Given)).toThrow(invalid('result'));
    expect([...headers]).toEqual([]);
    expect(() => rateLimitResponse(result as Given)).toThrow(invalid('result'));
  });
});

describe('the response', () => {
  it('a Response and Headers are changed and given back, and what they said before is replaced', () => {
    const response = new Response('body', { status: 201, headers: { ratelimit: 'old', 'x-other': 'kept' } });
    expect(addRateLimitHeaders(response, admitted())).toBe(response);
    expect(Object.fromEntries(response.headers)).toMatchObject({
      ratelimit: '"api";r=50;t=30',
      'x-ratelimit-limit': '100',
      'x-other': 'kept',
    });
    const headers = new Headers();
    expect(addRateLimitHeaders(headers, admitted())).toBe(headers);
    addRateLimitHeaders(headers, admitted({ type: 'other' }));
    expect(headers.get('ratelimit')).toBe('"other";r=50;t=30');
    class Own extends Response {}
    const own = new Own();
    expect(addRateLimitHeaders(own, admitted())).toBe(own);
  });

  it('a response of node:http gets them with their usual names', () => {
    const response = new ServerResponse(new IncomingMessage(new Socket()));
    expect(addRateLimitHeaders(response, denied())).toBe(response);
    const named = response as unknown as { getRawHeaderNames(): string[] };
    expect(named.getRawHeaderNames()).toEqual([
      'X-RateLimit-Limit',
      'X-RateLimit-Remaining',
      'X-RateLimit-Reset',
      'RateLimit-Policy',
      'RateLimit',
      'Retry-After',
    ]);
    expect(response.getHeader('retry-after')).toBe('30');
  });

  it('anything with setHeader does, also when it has headers or looks like some', () => {
    const seen = new Map<string, string>();
    class Reply {
      readonly headers = new Headers();
      get() {}
      set() {}
      append() {}
      delete() {}
      getSetCookie() {}
      setHeader(name: string, value: string) {
        seen.set(name, value);
        return this;
      }
    }
    const reply = new Reply();
    expect(addRateLimitHeaders(reply, admitted())).toBe(reply);
    expect(seen.get('RateLimit')).toBe('"api";r=50;t=30');
    expect([...reply.headers]).toEqual([]);
  });

  it('a Response that cannot be changed is answered by a copy with status, headers and body', async () => {
    const redirect = Response.redirect('http://x.test/there', 307);
    const copy = addRateLimitHeaders(redirect, admitted());
    expect(copy).not.toBe(redirect);
    expect([copy.status, copy.headers.get('location')]).toEqual([307, 'http://x.test/there']);
    expect(copy.headers.get('ratelimit')).toBe('"api";r=50;t=30');
    expect(redirect.headers.has('ratelimit')).toBe(false);

    const server = createServer((request, response) => {
      const status = request.url === '/none' ? 204 : 418;
      response.writeHead(status, 'Short and stout', [
        ...['Set-Cookie', 'a=1', 'Set-Cookie', 'b=2', 'X-Other', 'kept', 'RateLimit', '"old";r=1'],
      ]);
      response.end(status === 204 ? undefined : 'stream\u00e9d');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    try {
      const fetched = await fetch(url);
      const answer = addRateLimitHeaders(fetched, denied());
      expect(answer).not.toBe(fetched);
      expect([answer.status, answer.statusText, answer.ok]).toEqual([418, 'Short and stout', false]);
      expect(answer.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
      expect(Object.fromEntries(answer.headers)).toMatchObject({
        'x-other': 'kept',
        ratelimit: '"api";r=0;t=30',
        'retry-after': '30',
      });
      expect(await answer.text()).toBe('stream\u00e9d');
      const empty = addRateLimitHeaders(await fetch(`${url}/none`), admitted());
      expect([empty.status, empty.body, empty.headers.get('ratelimit')]).toEqual([
        204,
        null,
        '"api";r=50;t=30',
      ]);
      const read = await fetch(url);
      await read.text();
      expect(() => addRateLimitHeaders(read, admitted())).toThrow(invalid('response'));
      const unchangeable = await fetch(url);
      expect(() => addRateLimitHeaders(unchangeable.headers, admitted())).toThrow(invalid('response'));
      await unchangeable.text();
    } finally {
      server.close();
    }
  });

  it('a network error cannot carry them', () => {
    const call = () => addRateLimitHeaders(Response.error(), admitted());
    expect(call).toThrow(invalid('response'));
    expect(call).toThrow(/network error/);
  });

  it('headers that were sent stay as they were sent', async () => {
    const refusals: unknown[] = [];
    const server = createServer((_, response) => {
      response.flushHeaders();
      try {
        addRateLimitHeaders(response, admitted());
      } catch (error) {
        refusals.push(error);
      }
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      await (await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)).text();
      expect(refusals).toEqual([invalid('response')]);
    } finally {
      server.close();
    }
  });

  it.each<[what: string, response: unknown]>([
    ['undefined', undefined],
    ['null', null],
    ['text', 'x'],
    ['a plain object', {}],
    ['headers of node:http', { 'content-type': 'text/plain' }],
    ['a Map', new Map()],
    ['parameters of a URL', new URLSearchParams()],
    ['a form', new FormData()],
    ['a Request', new Request('http://x.test')],
    ['setHeader that is none', { setHeader: true }],
    ['a list', [new Response()]],
    ['a promise', Promise.resolve(new Response())],
  ])('refuses %s', (_, response) => {
    expect(() => addRateLimitHeaders(response, admitted())).toThrow(InvalidArgumentError);
    expect(() => addRateLimitHeaders(response, admitted())).toThrow(invalid('response'));
  });
});

describe('rateLimitResponse', () => {
  const TYPES = 'https://iana.org/assignments/http-problem-types';
  const bodyOf = async (response: Response) => (await response.json()) as Record<string, unknown>;

  it('tells whoever is denied, and programs, what is used up and when to come back', async () => {
    const response = rateLimitResponse(denied());
    expect([response.status, Object.fromEntries(response.headers)]).toEqual([
      429,
      {
        'cache-control': 'no-store',
        'content-type': 'application/problem+json',
        'x-ratelimit-limit': '100',
        'x-ratelimit-remaining': '0',
        'x-ratelimit-reset': '1800000001',
        ratelimit: '"api";r=0;t=30',
        'ratelimit-policy': '"api";q=100;w=60',
        'retry-after': '30',
      },
    ]);
    expect(await bodyOf(response)).toEqual({
      type: `${TYPES}#quota-exceeded`,
      title: expect.any(String),
      status: 429,
      detail: expect.stringMatching(/100.*60 s.*30 s/),
      'violated-policies': ['api'],
      retryAfterMs: 29_001,
    });
  });

  it('names the limits that deny, as the fields do, and the wait of the longest', async () => {
    const results = [
      denied({ type: 'größe "x"' }),
      admitted({ type: 'roomy' }),
      denied({ type: 'daily', retryAfterMs: 90_000 }),
    ];
    const response = rateLimitResponse(combine(results));
    const names = membersOf(response.headers.get('ratelimit')).map(({ name }) => name);
    expect(response.headers.get('retry-after')).toBe('90');
    expect(await bodyOf(response)).toMatchObject({
      'violated-policies': [names[0], names[2]],
      retryAfterMs: 90_000,
    });
  });

  it('says the same wait in the body and in the header', async () => {
    const used = admitted({ type: 'daily', remaining: 0, replenishAfterMs: 45_000 });
    const response = rateLimitResponse(combine([denied({ retryAfterMs: 5_000 }), used]));
    expect(response.headers.get('retry-after')).toBe('45');
    expect(await bodyOf(response)).toMatchObject({ retryAfterMs: 45_000, 'violated-policies': ['api'] });
  });

  it('does not invite to come back when it will never be admitted', async () => {
    const response = rateLimitResponse(denied({ retryAfterMs: NEVER }));
    expect([response.status, response.headers.has('retry-after')]).toEqual([429, false]);
    const body = await bodyOf(response);
    expect(body).not.toHaveProperty('retryAfterMs');
    expect(body['detail']).toMatch(/more than/);
    const gone = await bodyOf(rateLimitResponse(denied({ retryAfterMs: 1, replenishAfterMs: NEVER })));
    expect(gone['detail']).toMatch(/used up\.$/);
  });

  it('is a 503 when nobody could tell', async () => {
    const result = denied({ degraded: true, unavailable: true, retryAfterMs: 1_000, replenishAfterMs: 0 });
    for (const given of [result, combine([admitted(), result])]) {
      const response = rateLimitResponse(given);
      expect([response.status, response.headers.get('retry-after')]).toEqual([503, '1']);
      expect(await bodyOf(response)).toMatchObject({
        type: `${TYPES}#temporary-reduced-capacity`,
        status: 503,
        detail: expect.not.stringMatching(/used up/),
        retryAfterMs: 1_000,
      });
    }
    const degraded = rateLimitResponse(denied({ degraded: true }));
    expect(degraded.status).toBe(429);
  });

  it('takes headers of the application along, except the ones that say what it is', async () => {
    const given = {
      'access-control-allow-origin': '*',
      'content-type': 'text/html',
      'cache-control': 'public',
    };
    for (const headers of [given, new Headers(given), Object.entries(given)]) {
      const response = rateLimitResponse(denied(), { headers: headers as Headers });
      expect(Object.fromEntries(response.headers)).toMatchObject({
        'access-control-allow-origin': '*',
        'content-type': 'application/problem+json',
        'cache-control': 'no-store',
      });
    }
    expect(rateLimitResponse(denied(), {}).status).toBe(429);
    expect(rateLimitResponse(denied(), { headers: undefined }).status).toBe(429);
  });

  it('an admitted request is no 429', () => {
    for (const result of [admitted(), combine([admitted(), admitted()])]) {
      expect(() => rateLimitResponse(result)).toThrow(invalid('result'));
    }
  });

  it.each<[what: string, init: unknown, field: string]>([
    ['null', null, 'init'],
    ['text', 'x', 'init'],
    ['a status', { status: 503 }, 'status'],
    ['headers of text', { headers: 'x' }, 'headers'],
    ['a header with a line break', { headers: { a: 'b\r\nc: d' } }, 'headers'],
  ])('refuses %s as init', (_, init, field) => {
    expect(() => rateLimitResponse(denied(), init as { headers?: Headers })).toThrow(invalid(field));
  });

  it('never breaks a header or the body, whatever the names are', async () => {
    const random = new Random(SEED, 3);
    for (let round = 0; round < 500; round += 1) {
      const results = [anyText(random), anyText(random)].map((type) => denied({ type }));
      const response = rateLimitResponse(combine(results));
      const text = await response.text();
      const names = membersOf(response.headers.get('ratelimit')).map(({ name }) => name);
      expect(JSON.parse(text)).toMatchObject({ 'violated-policies': names });
    }
  });
});

function anyResult(random: Random, type: string): RateLimitResult {
  const limit = random.of([0, 1, 5, 100, 10_000_000]);
  const allowed = limit > 0 && random.upTo(1) === 0;
  const remaining = allowed || random.upTo(1) === 0 ? random.upTo(limit) : 0;
  const replenishAfterMs = remaining === limit ? 0 : 1 + random.upTo(random.of([2, 2_000, 90_000_000]));
  const later = random.upTo(5) === 0 ? NEVER : replenishAfterMs + random.upTo(3_000);
  return admitted({
    type,
    allowed,
    limit,
    remaining,
    replenishAfterMs,
    retryAfterMs: allowed ? 0 : later,
    degraded: random.upTo(3) === 0,
    windowSeconds: random.of([0.001, 0.5, 1, 1.5, 60, 86_400]),
  });
}

/** Of pieces that are trouble in a header, a structured field or UTF-8. */
function anyText(random: Random): string {
  const pieces = [
    'a',
    ' ',
    '"',
    '\\',
    '\r',
    '\n',
    '\0',
    ';',
    ',',
    '=',
    '\u007f',
    'é',
    '\u2028',
    '😀',
    '\ud83d',
    '\ude00',
  ];
  return Array.from({ length: random.upTo(8) }, () => random.of(pieces)).join('');
}

function expectRoundedUp(whole: number, exact: number): void {
  expect(whole).toBeGreaterThanOrEqual(exact);
  expect(whole - exact).toBeLessThan(1);
}

function decoded(name: string): string {
  return decodeURIComponent(name);
}

interface Member {
  readonly name: string;
  readonly parameters: Readonly<Record<string, number>>;
}

/** A List of Strings with Integer parameters, by RFC 9651, section 4.2; anything else throws. */
function membersOf(field: string | null | undefined): Member[] {
  let rest = field ?? '';
  const take = (pattern: RegExp): string => {
    const found = pattern.exec(rest)?.[0];
    if (found === undefined) throw new Error(`not a structured field: ${rest}`);
    rest = rest.slice(found.length);
    return found;
  };
  const members: Member[] = [];
  do {
    const name = take(/^"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"/).slice(1, -1);
    const parameters: Record<string, number> = {};
    while (rest.startsWith(';')) {
      const [key = '', value = ''] = take(/^; *[a-z*][a-z0-9_.*-]*=-?\d{1,15}(?![\d.])/)
        .slice(1)
        .split('=');
      parameters[key.trim()] = Number(value);
    }
    members.push({ name: name.replace(/\\(.)/g, '$1'), parameters });
    if (rest !== '') take(/^[ \t]*,[ \t]*(?=.)/);
  } while (rest !== '');
  return members;
}
