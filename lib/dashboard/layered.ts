/**
 * A cache in front of layers that can all answer the same question: the store, then a materialized view, then the
 * queries. Not the layers (`layers.ts`), and not the decision whether a value is current, which is the native side's.
 * Invariant: what is stored was answered by a layer and by nothing else; a placeholder is made for each caller and
 * never stored; figures say what was measured for this very call.
 */

import type * as Public from '../../index.js';
import { abortable, type CallOptions, check, deadline } from '../arguments.js';
import { isPassedBy } from '../datasource/results.js';
import type { BcosCacheError } from '../errors.js';
import { shortened } from '../jitter.js';
import { type Loader, type Protocol, timely } from '../loader.js';
import {
  type BeginReply,
  type InvalidationReply,
  type NativeEngine,
  SHARED,
  SHARED_ONLY,
} from '../native.js';
import type { Objects } from '../objects.js';
import { CACHE, type Definition, NONE, read, refused, type Whose, whose } from './definition.js';
import { type Answer, allFailed, askLayers, json, since } from './layers.js';
import { Turns } from './turns.js';

export interface Parts {
  readonly native: NativeEngine;
  readonly objects: Objects;
  readonly loader: Loader;
}

/** As it is stored. */
type Stored = Readonly<Record<string, unknown>> & { readonly performance: Public.LayeredPerformance };

/** What one call found out. */
interface Told {
  readonly value: Stored;
  /** Its own layers answered, it shared the load of another call here, or it was there. */
  readonly from: 'layers' | 'load' | 'cache';
  readonly stored: boolean;
}

/** Longest wait for somebody else's layers. */
const LONGEST_MS = 600_000;
/** For the commands around the layers. */
const AROUND_MS = 2_000;
/** How often something foreign under the key is removed. */
const ATTEMPTS = 2;
/** Every scope. */
const ALL = '*';

export class Layered implements Public.LayeredCache<object, object> {
  readonly #definition: Definition;
  readonly #parts: () => Parts;
  readonly #refreshes: Turns<Public.RefreshResult>;

  /** `parts` is called when the cache is first used: making one needs no engine. */
  constructor(given: Public.LayeredDefinition<object>, parts: () => Parts) {
    this.#definition = read(given);
    this.#parts = parts;
    this.#refreshes = new Turns(() => this.#refresh());
  }

  async get(options: Public.LayeredOptions = {}): Promise<object> {
    const begun = performance.now();
    const { useCache = true } = options;
    if (typeof useCache !== 'boolean') throw refused('useCache', 'true or false is expected');
    const of = whose(this.#definition, options.scopeKey);
    check(options);
    try {
      return handed(await (useCache ? this.#cached(of, options) : this.#own(of, options)), begun);
    } catch (error) {
      const { placeholder } = this.#definition;
      if (placeholder === undefined || !allFailed(error)) throw error;
      return this.#parts().objects.parse(0, degraded(await placeholder(error), error, begun));
    }
  }

  async warmUp(options: Public.WarmUpOptions = {}): Promise<Public.WarmUpResult> {
    const begun = performance.now();
    const of = whose(this.#definition, options.scopeKey);
    check(options);
    try {
      const { value, from, stored } = await this.#cached(of, options);
      return {
        loaded: from === 'layers',
        stored,
        layer: value.performance.cacheLayer,
        queryTime: since(begun),
      };
    } catch (error) {
      if (!allFailed(error)) throw error;
      return { loaded: false, stored: false, layer: NONE, queryTime: since(begun), error };
    }
  }

  async refresh(options?: CallOptions): Promise<Public.RefreshResult> {
    if (options !== undefined) check(options);
    const until = performance.now() + deadline(options);
    return abortable(timely(this.#refreshes.join(), options, until), options?.signal);
  }

  async #refresh(): Promise<Public.RefreshResult> {
    const begun = performance.now();
    await this.#definition.refresh?.();
    const refreshMs = since(begun);
    // Only now: whoever loads from here on reads what was refreshed.
    return { ...(await this.#void(this.#definition.scoped ? ALL : '', undefined)), refreshMs };
  }

  async invalidate(
    scopeKey?: string | Public.Scope,
    options?: CallOptions,
  ): Promise<Public.InvalidationResult> {
    if (options !== undefined) check(options);
    const every = scopeKey === undefined && this.#definition.scoped;
    return this.#void(every ? ALL : whose(this.#definition, scopeKey).digest, options);
  }

  async #void(digest: string, options: CallOptions | undefined): Promise<Public.InvalidationResult> {
    const { key } = this.#definition;
    const reply = this.#parts().native.invalidateLayered(key, digest, deadline(options));
    const [acknowledged, queued] = await abortable(reply as Promise<InvalidationReply>, options?.signal);
    return { acknowledged, queued };
  }

  /** The stored value, else what the layers say, stored. */
  async #cached(of: Whose, options: CallOptions): Promise<Told> {
    const begun = performance.now();
    let asked = false;
    try {
      for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
        const told = await this.#run(of, options, () => {
          asked = true;
          return askLayers(this.#definition.layers, of, [this.#tier(begun)]);
        });
        if (isOurs(told.value)) return told as Told;
        // Somebody has put something else there; it is not what this cache promises.
        await this.#void(of.digest, options);
      }
    } catch (error) {
      options.signal?.throwIfAborted();
      // Layers that were asked, here or for somebody who was waited for, are not asked again.
      if (asked || allFailed(error) || !isPassedBy(error, options)) throw error;
    }
    return this.#own(of, options, [this.#tier(begun)]);
  }

  /** What the layers say, for this call alone. */
  async #own(of: Whose, options: CallOptions, before: readonly Public.LayerTiming[] = []): Promise<Told> {
    const until = performance.now() + deadline(options);
    const asked = askLayers(this.#definition.layers, of, before, options.signal);
    const answer = await timely(asked, options, until);
    const value = this.#parts().objects.parse(0, answer.json) as Stored;
    return { value, from: 'layers', stored: false };
  }

  async #run({ digest }: Whose, options: CallOptions, ask: () => Promise<Answer>) {
    const { native, objects, loader } = this.#parts();
    const { key, budgetMs } = this.#definition;
    const ttlMs = shortened(this.#definition.ttlMs, Math.random());
    const budget = deadline(options) || Math.min(LONGEST_MS, budgetMs + AROUND_MS);
    const told: { from: Told['from']; stored: boolean } = { from: 'cache', stored: true };
    const protocol: Protocol<unknown> = {
      begin: (full) => native.beginLayered(key, digest, ttlMs, full, budget) as Promise<BeginReply>,
      found: (serial, written) => {
        if (written === undefined) return objects.get(serial);
        if (serial !== SHARED && serial !== SHARED_ONLY) return objects.parse(serial, written);
        [told.from, told.stored] = ['load', serial === SHARED];
        return objects.parse(0, written);
      },
      load: ask,
      encode: (loaded) => (loaded as Answer).json,
      end: async (lead, written) => {
        const reply = await (native.endLead(lead, written) as Promise<unknown>);
        told.stored = reply !== null;
        return reply;
      },
      decode: (written, serial) => {
        told.from = 'layers';
        return objects.parse(serial, written);
      },
    };
    const value = await loader.run<unknown>(protocol, options);
    return { ...told, value };
  }

  /** How the cache itself ended for a call that goes on to the layers. */
  #tier(begun: number): Public.LayerTiming {
    const outcome = this.#parts().native.available() ? 'miss' : 'unavailable';
    return { layer: CACHE, ms: since(begun), outcome };
  }
}

/** Whether a stored value is one of a layered cache. */
function isOurs(value: unknown): value is Stored {
  if (typeof value !== 'object' || value === null || !('performance' in value)) return false;
  const { cacheLayer, lastUpdated } = (value.performance ?? {}) as Partial<Public.LayeredPerformance>;
  return typeof cacheLayer === 'string' && typeof lastUpdated === 'string';
}

/** The value as the caller gets it: with the figures of this call. */
function handed({ value, from }: Told, begun: number): object {
  const { cacheLayer, lastUpdated, tiers } = value.performance;
  const ms = since(begun);
  const own = (outcome: Public.LayerTiming['outcome']) =>
    Object.freeze([Object.freeze({ layer: CACHE, ms, outcome })]);
  const figures: Public.LayeredPerformance = {
    queryTime: ms,
    cacheHit: from === 'cache',
    cacheLayer: from === 'cache' ? CACHE : cacheLayer,
    lastUpdated,
    tiers: from === 'layers' ? tiers : own(from === 'cache' ? 'hit' : 'shared'),
  };
  return Object.freeze({ ...value, performance: Object.freeze(figures) });
}

/** JSON of a placeholder, in the form that a value would have. */
function degraded(given: unknown, { message }: BcosCacheError, begun: number): string {
  const figures = {
    queryTime: since(begun),
    cacheHit: false,
    cacheLayer: NONE,
    lastUpdated: null,
    tiers: [],
  };
  const body = JSON.parse(json('the result of placeholder', given)) as object;
  return JSON.stringify({ ...body, degraded: true, degradedReason: message, performance: figures });
}

/** The same for the default engine, which is made when the cache is first used; mistakes are found now. */
export function lazily(
  given: Public.LayeredDefinition<object>,
  make: () => Public.LayeredCache<object, object>,
): Public.LayeredCache<object, object> {
  read(given);
  let made: Public.LayeredCache<object, object> | undefined;
  const cache = () => {
    made ??= make();
    return made;
  };
  return {
    get: async (options) => cache().get(options),
    warmUp: async (options) => cache().warmUp(options),
    refresh: async (options) => cache().refresh(options),
    invalidate: async (scopeKey, options) => cache().invalidate(scopeKey, options),
  };
}
