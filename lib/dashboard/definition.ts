/**
 * What a layered cache is, read once when it is made, and whose value a call is about. Not the layers' work.
 * Invariant: what is wrong with a definition is said when it is made and not when it is first used; a scope never
 * reaches a key as text, and a cache of one value for all takes none.
 */

import type * as Public from '../../index.js';
import { text } from '../arguments.js';
import { sha256 } from '../digest.js';
import { InvalidArgumentError, ScopeError } from '../errors.js';
import { Scope } from '../scope.js';

/** Room for the digest of a scope in the longest key that the native side takes. */
const KEY_BYTES = 896;
const TTL_SECONDS = 2_592_000;
/** A hanging layer keeps nobody longer than a lease lives by default. */
const LAYER_MS = 10_000;
const LONGEST_LAYER_MS = 600_000;
const LAYERS = 16;
/** Ends up in log records and metrics of the application. */
const NAME = /^[A-Za-z0-9_.:-]{1,64}$/;
/** What `cacheLayer` says of the cache itself, and of a placeholder. */
export const CACHE = 'redis';
export const NONE = 'none';

export interface Layer {
  readonly name: string;
  readonly load: (asked: Public.LayerRequest) => unknown;
  readonly timeoutMs: number;
}

export interface Definition {
  readonly key: string;
  readonly ttlMs: number;
  readonly layers: readonly Layer[];
  readonly refresh: (() => unknown) | undefined;
  readonly scoped: boolean;
  readonly placeholder: ((error: Public.BcosCacheError) => unknown) | undefined;
  /** What all layers may take together. */
  readonly budgetMs: number;
}

/** Whose value: what the layers are given, and the digest that stands in the key; empty = everybody's. */
export interface Whose {
  readonly scopeKey: string | Public.Scope | undefined;
  readonly digest: string;
}

const EVERYBODY: Whose = { scopeKey: undefined, digest: '' };

export function read(given: Public.LayeredDefinition<object>): Definition {
  if (typeof given !== 'object' || given === null) throw refused('definition', 'an object is expected');
  const key = text('key', given.key);
  if (key === '' || Buffer.byteLength(key) > KEY_BYTES) {
    throw refused('key', `a text of 1 to ${KEY_BYTES} bytes is expected`);
  }
  const { ttl, scoped = false, refresh, placeholder } = given;
  if (typeof ttl !== 'number' || !(ttl > 0 && ttl <= TTL_SECONDS)) {
    throw refused('ttl', `a number of seconds above 0 and at most ${TTL_SECONDS} (30 days) is expected`);
  }
  if (typeof scoped !== 'boolean') throw refused('scoped', 'true or false is expected');
  const layers = readLayers(given.layers);
  return {
    key,
    ttlMs: Math.max(1, Math.round(ttl * 1_000)),
    layers,
    refresh: optionalFunction('refresh', refresh),
    scoped,
    placeholder: optionalFunction('placeholder', placeholder),
    budgetMs: layers.reduce((sum, { timeoutMs }) => sum + timeoutMs, 0),
  };
}

function readLayers(given: unknown): Layer[] {
  if (!Array.isArray(given) || given.length === 0 || given.length > LAYERS) {
    throw refused('layers', `a list of 1 to ${LAYERS} layers is expected`);
  }
  const names = new Set<string>([CACHE, NONE]);
  return Array.from(given as readonly unknown[], (one, at) => {
    const field = `layers[${at}]`;
    if (typeof one !== 'object' || one === null) throw refused(field, 'an object is expected');
    const { name, load, timeoutMs = LAYER_MS } = one as Partial<Public.CacheLayer<object>>;
    if (typeof name !== 'string' || !NAME.test(name)) {
      throw refused(`${field}.name`, '1 to 64 characters of A-Z, a-z, 0-9 and _.:- are expected');
    }
    if (names.has(name)) {
      throw refused(`${field}.name`, `a name of its own is expected; ${CACHE} and ${NONE} are taken`);
    }
    names.add(name);
    if (typeof load !== 'function') throw refused(`${field}.load`, 'a function is expected');
    if (!Number.isInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > LONGEST_LAYER_MS) {
      const accepted = `a whole number of milliseconds between 1 and ${LONGEST_LAYER_MS} is expected`;
      throw refused(`${field}.timeoutMs`, accepted);
    }
    return { name, load: (asked) => load.call(one, asked), timeoutMs };
  });
}

function optionalFunction<F>(field: string, given: F | undefined): F | undefined {
  if (given === undefined || typeof given === 'function') return given;
  throw refused(field, 'a function is expected');
}

/** Whose value a call is about. */
export function whose({ scoped }: Definition, given: unknown): Whose {
  if (!scoped) {
    if (given === undefined) return EVERYBODY;
    const why = 'this cache has one value for everybody; make it with scoped: true';
    throw refused('scopeKey', why);
  }
  if (given === undefined || given === null || given === '') {
    const message = 'scopeKey is missing: this cache has one value for each scope';
    throw new ScopeError(message, { field: 'scopeKey' });
  }
  // A letter in front: no text can be taken for a scope.
  if (!(given instanceof Scope))
    return { scopeKey: given as string, digest: sha256(`t${text('scopeKey', given)}`) };
  const { kind, practices, providers } = given;
  return {
    scopeKey: given as unknown as Public.Scope,
    digest: sha256(`s${JSON.stringify({ kind, practices, providers })}`),
  };
}

export function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
