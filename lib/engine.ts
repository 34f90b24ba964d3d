/**
 * The engine as applications hold it: arguments in, native requests out, objects back. No policy here: what
 * is cached, for how long and when it is believed is decided in Rust.
 * Invariant: every method that returns a promise reports a bad argument by rejecting, never by throwing.
 */

import type * as Public from '../index.js';
import { abortable, type CallOptions, check, deadline, json, optionalText, text, time } from './arguments.js';
import { InvalidArgumentError } from './errors.js';
import { Loader } from './loader.js';
import {
  binding,
  type Hot,
  type InvalidationReply,
  type NativeEngine,
  type ObjectReply,
  variables,
} from './native.js';
import { Objects } from './objects.js';

/** Longest wait of `close()` for running calls, in milliseconds. */
const DRAIN_MS = 5_000;

export class Engine implements Public.Engine {
  readonly #native: NativeEngine;
  readonly #hot: Hot;
  readonly #objects = new Objects();
  readonly #loader = new Loader();
  #closing: Promise<void> | undefined;

  constructor(native: NativeEngine) {
    this.#native = native;
    this.#hot = native.hot() as unknown as Hot;
  }

  isRedisAvailable(): boolean {
    return this.#native.available();
  }

  async getHealth(): Promise<Public.EngineHealth> {
    return JSON.parse((await this.#native.health()) as string) as Public.EngineHealth;
  }

  getMetrics(): Public.MetricsSnapshot {
    return JSON.parse(this.#native.metrics()) as Public.MetricsSnapshot;
  }

  metricsText(): string {
    return this.#native.metricsText();
  }

  setLogger(logger: Public.Logger | null): void {
    setLogger(logger);
  }

  close(options?: Public.CloseOptions): Promise<void> {
    this.#closing ??= (this.#native.close(options?.drainMs ?? DRAIN_MS) as Promise<unknown>).then(
      () => undefined,
    );
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async isTokenBlacklisted(tokenId: string, options?: CallOptions): Promise<boolean> {
    const id = text('tokenId', tokenId);
    if (options !== undefined) check(options);
    if (this.#hot.peekRevoked(id)) return true;
    return await abortable(this.#hot.tokenIsBlacklisted(id, false, deadline(options)), options?.signal);
  }

  async getCachedTokenBlacklistStatus(tokenId: string, options?: CallOptions): Promise<boolean | null> {
    const reply = this.#native.tokenStatus(text('tokenId', tokenId), deadline(options));
    return abortable(reply as Promise<boolean | null>, options?.signal);
  }

  async cacheTokenBlacklistStatus(
    tokenId: string,
    blacklisted: boolean,
    options?: CallOptions,
  ): Promise<boolean> {
    if (typeof blacklisted !== 'boolean') {
      const message = 'blacklisted is not accepted: true or false is expected';
      throw new InvalidArgumentError(message, { field: 'blacklisted' });
    }
    const reply = this.#native.cacheTokenStatus(text('tokenId', tokenId), blacklisted, deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async invalidateTokenCache(tokenId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateToken(text('tokenId', tokenId), deadline(options)), options);
  }

  async blacklistToken(
    revocation: Public.TokenRevocation,
    options?: CallOptions,
  ): Promise<Public.BlacklistResult> {
    if (typeof revocation !== 'object' || revocation === null) {
      throw new InvalidArgumentError('revocation is not accepted: an object is expected', {
        field: 'revocation',
      });
    }
    const reply = this.#native.blacklistToken(
      text('jti', revocation.jti),
      text('userId', revocation.userId),
      text('tokenType', revocation.tokenType),
      time('expiresAt', revocation.expiresAt),
      text('reason', revocation.reason),
      optionalText('blacklistedBy', revocation.blacklistedBy),
      optionalText('ipAddress', revocation.ipAddress),
      optionalText('userAgent', revocation.userAgent),
      deadline(options),
    );
    const [acknowledged, queued, inserted] = await abortable(
      reply as Promise<InvalidationReply>,
      options?.signal,
    );
    return { acknowledged, queued, inserted: inserted === true };
  }

  async invalidateAllUserTokens(userId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateUserTokens(text('userId', userId), deadline(options)), options);
  }

  async getUserById(userId: string, options?: CallOptions): Promise<Public.User | null> {
    const id = text('userId', userId);
    if (options !== undefined) check(options);
    const serial = this.#hot.peekUser(id);
    const near = serial > 0 ? this.#objects.get(serial) : undefined;
    if (near !== undefined) return near as Public.User;
    // The usual case without a closure or a second promise: this is asked for every request.
    const reply = await abortable(this.#hot.userById(id, false, deadline(options)), options?.signal);
    if (reply === null) return null;
    const known = this.#known(reply);
    if (known !== undefined) return known as Public.User;
    const full = await abortable(this.#hot.userById(id, true, deadline(options)), options?.signal);
    return full === null ? null : ((this.#known(full) ?? null) as Public.User | null);
  }

  async getUserByEmail(email: string, options?: CallOptions): Promise<Public.User | null> {
    const address = text('email', email);
    const user = this.#object(() => this.#native.userByEmail(address, deadline(options)));
    return abortable(user, options?.signal) as Promise<Public.User | null>;
  }

  async invalidateUserCache(userId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateUser(text('userId', userId), deadline(options)), options);
  }

  async getCachedUserBasic(userId: string, options?: CallOptions): Promise<Public.User | null> {
    const id = text('userId', userId);
    const user = this.#object((full) => this.#native.cachedUser(id, full, deadline(options)));
    return abortable(user, options?.signal) as Promise<Public.User | null>;
  }

  async cacheUserBasic(userId: string, user: Public.UserInput, options?: CallOptions): Promise<boolean> {
    const reply = this.#native.cacheUser(text('userId', userId), json('user', user), deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async getCachedJWTPayload<T extends object = Public.JWTPayload>(
    token: string,
    options?: CallOptions,
  ): Promise<Readonly<T> | null> {
    const given = text('token', token);
    const payload = this.#object((full) => this.#hot.cachedJwt(given, full, deadline(options)));
    return abortable(payload, options?.signal) as Promise<Readonly<T> | null>;
  }

  async cacheJWTPayload(token: string, payload: object, options?: CallOptions): Promise<boolean> {
    const reply = this.#native.cacheJwt(text('token', token), json('payload', payload), deadline(options));
    return abortable(reply as Promise<boolean>, options?.signal);
  }

  async invalidateJWTPayload(tokenId: string, options?: CallOptions): Promise<Public.InvalidationResult> {
    return invalidated(this.#native.invalidateJwt(text('tokenId', tokenId), deadline(options)), options);
  }

  async verifyTokenCached<T extends object = Public.JWTPayload>(
    token: string,
    verify: (token: string) => T | Promise<T>,
    options?: CallOptions,
  ): Promise<Readonly<T>> {
    const given = text('token', token);
    if (typeof verify !== 'function') {
      throw new InvalidArgumentError('verify is not accepted: a function is expected', { field: 'verify' });
    }
    const payload = this.#loader.run<object>(
      {
        begin: (full) => this.#hot.beginJwt(given, full, deadline(options)),
        found: (serial, written) => this.#known(written === undefined ? serial : [serial, written]),
        load: () => verify(given),
        encode: (loaded) => json('the result of verify', loaded),
        end: (lead, written) => this.#native.endJwt(lead, written) as Promise<unknown>,
        decode: (written, serial) => this.#objects.parse(serial, written),
      },
      options,
    );
    return payload as Promise<Readonly<T>>;
  }

  /** The object of a read; asks in full when this side does not have the object of a near copy. */
  async #object(ask: (full: boolean) => Promise<unknown>): Promise<object | null> {
    const reply = (await ask(false)) as ObjectReply;
    if (reply === null) return null;
    const known = this.#known(reply);
    if (known !== undefined) return known;
    const full = (await ask(true)) as ObjectReply;
    return full === null ? null : (this.#known(full) ?? null);
  }

  #known(reply: Exclude<ObjectReply, null>): object | undefined {
    if (typeof reply === 'string') return this.#objects.parse(0, reply);
    if (typeof reply === 'number') return this.#objects.get(reply);
    return this.#objects.get(reply[0]) ?? this.#objects.parse(reply[0], reply[1]);
  }
}

async function invalidated(
  reply: unknown,
  options: CallOptions | undefined,
): Promise<Public.InvalidationResult> {
  const [acknowledged, queued] = await abortable(reply as Promise<InvalidationReply>, options?.signal);
  return { acknowledged, queued };
}

/** Makes an engine of its own. */
export function createEngine(options?: Public.EngineOptions): Engine {
  return new Engine(binding.createEngine(variables(), optionsJson(options)));
}

/** Sets the options of the default engine. */
export function configure(options: Public.EngineOptions): void {
  binding.configure(variables(), optionsJson(options));
}

/** The default engine. The native one is shared by every copy of this module; this wrapper is not. */
export function getEngine(): Engine {
  defaultEngine ??= new Engine(binding.defaultEngine(variables()));
  return defaultEngine;
}

let defaultEngine: Engine | undefined;

/** Closes the default engine if there is one. */
export async function closeDefault(options?: Public.CloseOptions): Promise<void> {
  if (defaultEngine === undefined) {
    const native = binding.existingEngine();
    if (native === null) return;
    defaultEngine = new Engine(native);
  }
  await defaultEngine.close(options);
}

/** Records arrive as JSON, one per call. */
export function setLogger(logger: Public.Logger | null): void {
  if (logger !== null && typeof logger !== 'function') {
    throw new InvalidArgumentError('logger is not accepted: a function or null is expected', {
      field: 'logger',
    });
  }
  if (logger === null) binding.setLogger(null);
  else {
    binding.setLogger((record: string) => {
      const parsed = JSON.parse(record) as Omit<Public.LogRecord, 'time'> & { time: number };
      logger({ ...parsed, time: new Date(parsed.time).toISOString() });
    });
  }
}

/** `undefined` means "not given", in options as everywhere; `null` is reported by the native side. */
function optionsJson(options: Public.EngineOptions | undefined): string {
  if (options === undefined) return '{}';
  return json('options', options);
}
