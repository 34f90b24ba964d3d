/**
 * What is measured of a cache of results: a hit, a miss, and how their answers are looked at. No clock and no peer here.
 * Invariant: a hit that runs its load function is an error, and so is a miss that does not run it exactly once. Every answer
 * is looked at in one place, another one each time; of every key all of an answer is compared, before and after.
 */

import { setImmediate as immediate } from 'node:timers/promises';
import { keyOf, SOURCE } from './result-caches.mjs';
import { digestOf } from './result-data.mjs';

/**
 * @typedef {import('./measure.mjs').Variant} Variant
 * @typedef {import('./result-caches.mjs').ResultCache} ResultCache
 * @typedef {import('./result-caches.mjs').Answer} Answer
 * @typedef {import('./result-caches.mjs').Load} Load
 * @typedef {import('./result-data.mjs').Known} Known
 * @typedef {string | Buffer} Raw
 */

const FIRST_OF_TAIL = '"query_time_ms"';
/** Longer than what is in front of it: the times, and what an own format adds. */
const HEAD_BYTES = 160;
/** A prime, so that another row and another byte is looked at each time. */
const STEP = 7_919;
/** Runs that hits are filled under: one key cannot hold an object and a text. */
const HIT_RUNS = { parsed: 0, raw: 1 };
const FIRST_MISS = 2;

/** @param {number} index @param {number} run */
const paramsOf = (index, run) => ({
  dataSourceId: SOURCE,
  measure: 'Charges',
  frequency: 'Monthly',
  start_date: '2022-01-01',
  end_date: '2024-12-31',
  practice_uids: [101, 102, 103, 117, 142],
  advanced_filters: [{ column: 'measure_value', operator: 'gt', value: index }],
  chart: run,
});

/** The variants for these results, as objects or as text. */
export class ResultVariants {
  #looked = 0;

  /** @param {Known[]} known @param {boolean} raw */
  constructor(known, raw) {
    this.known = known;
    this.raw = raw;
    this.run = raw ? HIT_RUNS.raw : HIT_RUNS.parsed;
  }

  /** Every key once, so that it is a hit from now on. @param {ResultCache} cache */
  async fill(cache) {
    for (const [index, { result }] of this.known.entries())
      await this.#ask(cache, index, this.run, async () => result);
  }

  /** @param {ResultCache} cache @returns {Variant} */
  hit(cache) {
    const load = async () => {
      throw new Error(`a hit of "${cache.name}" ran its load function`);
    };
    return this.#variant(cache, (index) => this.#ask(cache, index, this.run, load));
  }

  /** Every round has keys of its own. @param {ResultCache} cache @returns {Variant} */
  miss(cache) {
    let run = FIRST_MISS;
    const call = async (/** @type {number} */ index) => {
      let loads = 0;
      const load = async () => {
        loads += 1;
        await immediate();
        return this.#of(index).result;
      };
      const answer = await this.#ask(cache, index, run, load);
      if (loads !== 1) throw new Error(`a miss of "${cache.name}" ran its load function ${loads} times`);
      return answer;
    };
    const prepare = async () => {
      run += 1;
      await cache.clear();
    };
    return { ...this.#variant(cache, call), prepare };
  }

  /** @param {ResultCache} cache @param {(index: number) => Promise<unknown>} call @returns {Variant} */
  #variant(cache, call) {
    return {
      name: this.raw ? cache.rawName : cache.name,
      call,
      // All were looked at already.
      glance: () => true,
      right: (answer, index) =>
        this.raw
          ? digestOf(tailOf(/** @type {Raw} */ (answer))) === this.#of(index).digest
          : this.#sameObject(/** @type {Answer} */ (answer), index, cache.frozen),
    };
  }

  /** @param {ResultCache} cache @param {number} index @param {number} run @param {Load} load */
  async #ask(cache, index, run, load) {
    const params = paramsOf(index, run);
    const answer = this.raw ? await cache.askRaw(params, load) : await cache.ask(params, load);
    const fine = this.raw
      ? this.#looksLikeText(/** @type {Raw} */ (answer), index)
      : this.#looksLikeObject(/** @type {Answer} */ (answer), index);
    if (!fine) throw new Error(`wrong answer of "${cache.name}" for key ${index}`);
    return answer;
  }

  /** There may be more keys than results. @param {number} index */
  #of(index) {
    return /** @type {Known} */ (this.known[index % this.known.length]);
  }

  /** @param {Answer} answer @param {number} index */
  #looksLikeObject({ data: given }, index) {
    const { data } = this.#of(index).result;
    const at = (this.#looked++ * STEP) % data.length;
    const [row, right] = [given[at], data[at]];
    return (
      given.length === data.length &&
      row?.measure_value === right?.measure_value &&
      row?.provider_name === right?.provider_name
    );
  }

  /** @param {Raw} answer @param {number} index */
  #looksLikeText(answer, index) {
    const { tail, tailBytes } = this.#of(index);
    const isText = typeof answer === 'string';
    const { length } = isText ? tail : tailBytes;
    const [head, at] = [answer.length - length, (this.#looked++ * STEP) % length];
    if (head <= 0 || head > HEAD_BYTES) return false;
    return isText
      ? answer.charCodeAt(head + at) === tail.charCodeAt(at)
      : answer[head + at] === tailBytes[at];
  }

  /** @param {Answer} answer @param {number} index @param {boolean} frozen whether it must be */
  #sameObject({ query_time_ms, data }, index, frozen) {
    const isFrozen = Object.isFrozen(data) && data.every((row) => Object.isFrozen(row));
    const tail = JSON.stringify({ query_time_ms, data }).slice(1);
    return isFrozen === frozen && digestOf(tail) === this.#of(index).digest;
  }
}

/** @param {Raw} raw */
function tailOf(raw) {
  const from = raw.indexOf(FIRST_OF_TAIL);
  return from < 0 || from > HEAD_BYTES ? '' : raw.slice(from);
}

/** What everybody but us makes of the parameters before anything is asked. @returns {Variant} */
export const keyAlone = () => ({
  name: 'the key of the peers, alone',
  right: (answer) => typeof answer === 'string',
  call: async (index) => keyOf(paramsOf(index, HIT_RUNS.parsed)),
});
