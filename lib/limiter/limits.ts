/**
 * Rate limits as an engine offers them. Not the decisions: those are made on the native side.
 * Invariant: what is asked for is checked before anything is charged, and every check is charged at most once.
 */

import type * as Public from '../../index.js';
import { abortable, check, deadline, text } from '../arguments.js';
import { sha256 } from '../digest.js';
import { BcosCacheError, ConfigError, InvalidArgumentError } from '../errors.js';
import type { Hot, InvalidationReply, LimitReply, NativeEngine } from '../native.js';
import { getRateLimitKey, networkOf } from './address.js';
import { rateLimitResponse } from './problem.js';
import { combine } from './result.js';

/** One limit, checked. */
export interface Spec {
  readonly type: string;
  readonly identifier: string;
  readonly limit: number;
  readonly windowMs: number;
  readonly cost: number;
  readonly fallback: Fallback;
}

/** 0 local, 1 open, 2 closed. */
type Fallback = 0 | 1 | 2;

interface Settings {
  readonly named: Readonly<
    Record<string, { limit: number; windowSeconds: number; onStoreFailure: Public.OnStoreFailure }>
  >;
  readonly onStoreFailure: Public.OnStoreFailure;
  readonly trustedProxies: number | readonly string[] | null;
}

const FALLBACKS: Readonly<Record<Public.OnStoreFailure, Fallback>> = { local: 0, open: 1, closed: 2 };
/** Limits and costs; far above anything that is counted. */
const MOST = 1_000_000_000;
/** 24 days, in milliseconds: an age has to fit into 31 bits. */
const LONGEST_WINDOW_MS = 2_147_483_647;
const LONGEST_BLOCK_SECONDS = 315_576_000;
const PROPERTIES: ReadonlySet<string> = new Set([
  'type',
  'identifier',
  'limit',
  'windowSeconds',
  'cost',
  'onStoreFailure',
]);
/** The types of `checkGlobalRateLimit` and `checkIpRateLimit`. */
const GLOBAL = 'global';
const ADDRESS = 'ip';
/** Longer ones are counted by their digest. */
const LONGEST_IDENTIFIER = 256;
/** Characters that describe one limit in a reply, and what means never. */
const CHARACTERS = 12;
const NEVER = 2 ** 48 - 1;
const ADMITTED = 1;
const UNAVAILABLE = 2;
const NOT_ASKED = 3;

export class Limits {
  readonly #native: NativeEngine;
  readonly #hot: Hot;
  readonly #settings: Settings;
  readonly #usual: Fallback;

  constructor(native: NativeEngine, hot: Hot) {
    this.#native = native;
    this.#hot = hot;
    this.#settings = JSON.parse(native.rateLimits()) as Settings;
    this.#usual = FALLBACKS[this.#settings.onStoreFailure];
  }

  check(
    type: unknown,
    identifier: unknown,
    limit: unknown,
    windowSeconds: unknown,
    options: Public.RateLimitOptions | undefined,
    charge = true,
  ): Promise<Public.RateLimitResult> {
    let spec: Spec;
    // Not an async function around another one: that costs a promise and three turns of the queue for every check.
    try {
      if (options !== undefined) check(options);
      const called = name(type);
      spec = {
        type: called,
        identifier: whose(called, identifier),
        limit: amount('limit', limit),
        windowMs: milliseconds(windowSeconds),
        cost: options?.cost === undefined ? 1 : amount('cost', options.cost),
        fallback: options?.onStoreFailure === undefined ? this.#usual : fallback(options.onStoreFailure),
      };
    } catch (error) {
      return Promise.reject(error);
    }
    return this.ask(spec, charge, options);
  }

  async ask(
    spec: Spec,
    charge: boolean,
    options: Public.CallOptions | undefined,
  ): Promise<Public.RateLimitResult> {
    const { type, identifier, limit, windowMs, cost } = spec;
    const budget = deadline(options);
    const asked = this.#hot.limit(type, identifier, limit, windowMs, cost, spec.fallback, charge, budget);
    const result = resultOf(await abortable(asked, options?.signal), 0, spec, Date.now());
    if (result === undefined) throw new BcosCacheError('E_INTERNAL', 'the native side did not ask');
    return result;
  }

  async checkAll(
    limits: unknown,
    options: Public.CallOptions | undefined,
  ): Promise<Public.CombinedRateLimitResult> {
    if (options !== undefined) check(options);
    return this.askAll(this.specs('limits', limits), options);
  }

  async askAll(
    specs: readonly Spec[],
    options: Public.CallOptions | undefined,
  ): Promise<Public.CombinedRateLimitResult> {
    const reply = await abortable(this.#hot.limits(flat(specs), true, deadline(options)), options?.signal);
    return combined(reply, specs);
  }

  /** Limits as they are passed in a list, or one alone. */
  specs(field: string, limits: unknown): readonly Spec[] {
    // The usual one without a list of its own: this is asked for every request.
    if (!Array.isArray(limits)) return [this.#spec(field, limits)];
    const list: readonly unknown[] = limits;
    if (list.length === 0 || list.length > 16) {
      throw refused(field, 'between 1 and 16 limits are expected');
    }
    return list.map((one) => this.#spec(field, one));
  }

  #spec(field: string, given: unknown): Spec {
    if (typeof given !== 'object' || given === null) throw refused(field, 'an object per limit is expected');
    for (const property in given) {
      if (!PROPERTIES.has(property)) {
        throw refused(field, `unknown property ${property}; known are ${[...PROPERTIES].join(', ')}`);
      }
    }
    const { type, identifier, limit, windowSeconds, cost, onStoreFailure } = given as Public.RateLimitCheck;
    const called = name(type);
    const usual = limit === undefined && windowSeconds === undefined ? this.named(called) : undefined;
    const policy = onStoreFailure ?? usual?.onStoreFailure ?? this.#settings.onStoreFailure;
    return {
      type: called,
      identifier: whose(called, identifier),
      limit: amount('limit', usual?.limit ?? limit),
      windowMs: milliseconds(usual?.windowSeconds ?? windowSeconds),
      cost: cost === undefined ? 1 : amount('cost', cost),
      fallback: fallback(policy),
    };
  }

  /** A limit of the configuration. */
  named(type: string): Settings['named'][string] {
    const found = Object.hasOwn(this.#settings.named, type) ? this.#settings.named[type] : undefined;
    if (found !== undefined) return found;
    const known = Object.keys(this.#settings.named).join(', ');
    throw refused('type', `there is no limit of this name; known are ${known}; others go into rateLimits`);
  }

  async ip(
    ip: unknown,
    limit: unknown,
    windowSeconds: unknown,
    options: Public.RateLimitOptions | undefined,
  ): Promise<Public.RateLimitResult> {
    const network = networkOf(text('ip', ip));
    if (network === null) throw refused('ip', 'an IPv4 or IPv6 address is expected');
    return this.check(ADDRESS, network, limit, windowSeconds, options);
  }

  async apply(
    request: Public.RateLimitRequest,
    type: unknown,
    options: Public.ApplyRateLimitOptions | undefined,
  ): Promise<Public.AppliedRateLimit> {
    const called = name(type);
    const { limit, windowSeconds, onStoreFailure } = this.named(called);
    const spec: Spec = {
      type: called,
      identifier:
        options?.identifier === undefined
          ? this.#client(request, options)
          : whose(called, options.identifier),
      limit,
      windowMs: milliseconds(windowSeconds),
      cost: options?.cost === undefined ? 1 : amount('cost', options.cost),
      fallback: fallback(options?.onStoreFailure ?? onStoreFailure),
    };
    const result = await this.ask(spec, true, options);
    return {
      ...result,
      success: result.allowed,
      response: result.allowed ? null : rateLimitResponse(result),
    };
  }

  /** Whose request it is, by address. There is no bucket for those without one: it would be everybody's. */
  #client(request: Public.RateLimitRequest, options: Public.ApplyRateLimitOptions | undefined): string {
    const trustedProxies = options?.trustedProxies ?? this.#settings.trustedProxies;
    if (trustedProxies === null) {
      const variable = 'RATE_LIMIT_TRUSTED_PROXIES';
      const fix =
        'set it to the number of proxies in front of the application (1 behind one load balancer), pass trustedProxies, or pass an identifier';
      throw new ConfigError(`${variable} is not set: ${fix}`, { field: variable });
    }
    const key = getRateLimitKey(request, {
      trustedProxies,
      ...(options?.header === undefined ? {} : { header: options.header }),
      // There but undefined is something else: a connection that is gone.
      ...(options !== undefined && 'remoteAddress' in options
        ? { remoteAddress: options.remoteAddress }
        : {}),
    });
    if (key !== null) return key;
    throw refused(
      'request',
      'the address of its client is not known; check trustedProxies, pass remoteAddress, or pass an identifier',
    );
  }

  async reset(
    type: unknown,
    identifier: unknown,
    options: Public.CallOptions | undefined,
  ): Promise<Public.InvalidationResult> {
    const reply = await this.#change(type, identifier, 1, 1, 'reset', 0, options);
    const [acknowledged, queued] = reply as InvalidationReply;
    return { acknowledged, queued };
  }

  async block(
    type: unknown,
    identifier: unknown,
    limit: unknown,
    windowSeconds: unknown,
    blockSeconds: unknown,
    options: Public.CallOptions | undefined,
  ): Promise<void> {
    if (typeof blockSeconds !== 'number' || !(blockSeconds >= 0 && blockSeconds <= LONGEST_BLOCK_SECONDS)) {
      throw refused('blockSeconds', `a number of seconds between 0 and ${LONGEST_BLOCK_SECONDS} is expected`);
    }
    const [most, windowMs, ms] = [
      amount('limit', limit),
      milliseconds(windowSeconds),
      Math.ceil(blockSeconds * 1_000),
    ];
    await this.#change(type, identifier, most, windowMs, 'block', ms, options);
  }

  async reward(
    type: unknown,
    identifier: unknown,
    limit: unknown,
    windowSeconds: unknown,
    cost: unknown,
    options: Public.CallOptions | undefined,
  ): Promise<void> {
    const [most, windowMs, back] = [
      amount('limit', limit),
      milliseconds(windowSeconds),
      amount('cost', cost),
    ];
    await this.#change(type, identifier, most, windowMs, 'reward', back, options);
  }

  #change(
    type: unknown,
    identifier: unknown,
    limit: number,
    windowMs: number,
    change: 'reset' | 'block' | 'reward',
    amount: number,
    options: Public.CallOptions | undefined,
  ): Promise<unknown> {
    const called = name(type);
    const bearer = whose(called, identifier);
    const budget = deadline(options);
    const reply = this.#native.changeLimit(called, bearer, limit, windowMs, change, amount, budget);
    return abortable(reply as Promise<unknown>, options?.signal);
  }
}

/** Limits as the native side reads them. */
export function flat(specs: readonly Spec[]): (string | number)[] {
  const values: (string | number)[] = [];
  for (const one of specs) {
    values.push(one.type, one.identifier, one.limit, one.windowMs, one.cost, one.fallback);
  }
  return values;
}

/** What all limits of a check say. */
export function combined(reply: LimitReply, specs: readonly Spec[]): Public.CombinedRateLimitResult {
  const now = Date.now();
  const [only] = specs;
  if (specs.length === 1 && only !== undefined) {
    const result = resultOf(reply, 0, only, now);
    if (result !== undefined) return { ...result, results: [result] };
  }
  const results = specs.map((spec, at) => resultOf(reply, at * CHARACTERS, spec, now));
  return combine(results.filter((one) => one !== undefined));
}

function resultOf(
  reply: LimitReply,
  at: number,
  spec: Spec,
  now: number,
): Public.RateLimitResult | undefined {
  const given = reply.charCodeAt(at);
  const state = given & 3;
  if (state === NOT_ASKED) return undefined;
  const remaining = reply.charCodeAt(at + 1) * 65_536 + reply.charCodeAt(at + 2);
  const resetTime = now + six(reply, at + 6);
  const retry = six(reply, at + 9);
  const result = {
    allowed: state === ADMITTED,
    current: state === UNAVAILABLE ? 0 : Math.max(0, spec.limit - remaining),
    limit: spec.limit,
    remaining,
    resetTime,
    resetAt: Math.ceil(resetTime / 1_000),
    retryAfterMs: retry === NEVER ? Number.POSITIVE_INFINITY : retry,
    replenishAfterMs: six(reply, at + 3),
    degraded: given >= 4,
    type: spec.type,
    windowSeconds: spec.windowMs / 1_000,
  };
  return state === UNAVAILABLE ? { ...result, unavailable: true } : result;
}

/** Six bytes in three characters. */
function six(reply: LimitReply, at: number): number {
  return (reply.charCodeAt(at) * 65_536 + reply.charCodeAt(at + 1)) * 65_536 + reply.charCodeAt(at + 2);
}

/**
 * The identifier as it is counted: an address by its network, a long one by its digest. An empty one would be
 * everybody's.
 */
function whose(type: string, identifier: unknown): string {
  const given = text('identifier', identifier);
  if (given === '' && type !== GLOBAL) {
    throw refused('identifier', 'it is empty, and would be shared by everybody without one');
  }
  if (type === ADDRESS) return networkOf(given) ?? given;
  if (given.length <= LONGEST_IDENTIFIER) return given;
  return `sha256:${sha256(given)}`;
}

function name(type: unknown): string {
  const given = text('type', type);
  if (given === '') throw refused('type', 'it is empty');
  return given;
}

function amount(field: string, value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MOST) return value;
  throw refused(field, `a whole number between 1 and ${MOST} is expected`);
}

function milliseconds(windowSeconds: unknown): number {
  const ms = typeof windowSeconds === 'number' ? Math.round(windowSeconds * 1_000) : Number.NaN;
  if (ms >= 1 && ms <= LONGEST_WINDOW_MS) return ms;
  throw refused('windowSeconds', 'a number of seconds between 0.001 and 2147483 is expected');
}

function fallback(policy: unknown): Fallback {
  if (policy === 'local' || policy === 'open' || policy === 'closed') return FALLBACKS[policy];
  throw refused('onStoreFailure', "'local', 'open' or 'closed' is expected");
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
