/**
 * Parsed objects of this environment, by the number of the native near copy they were parsed from. Not a
 * cache of its own: whether an object is current is decided by the native side on every read.
 * Invariant: an object is frozen before anybody sees it, and the texts behind all of them stay in budget.
 */

import type { ObjectReply } from './native.js';

const BUDGET_CHARACTERS = 32 * 1024 * 1024;

interface Kept {
  readonly value: object;
  readonly characters: number;
}

export class Objects {
  readonly #kept = new Map<number, Kept>();
  #characters = 0;

  /** The object parsed for `serial`, if it is still kept. */
  get(serial: number): object | undefined {
    return this.#kept.get(serial)?.value;
  }

  /**
   * The object of a reply; `undefined` when only its number came and it is not kept here. `made` is called with
   * every object that is parsed, once.
   */
  of(reply: Exclude<ObjectReply, null>, made?: (value: object) => void): object | undefined {
    if (typeof reply === 'number') return this.get(reply);
    if (typeof reply === 'string') return this.parse(0, reply, made);
    return this.parse(reply[0], reply[1], made);
  }

  /** The object of `serial`: kept already, or parsed, frozen and kept now; `serial` 0 is not kept. */
  parse(serial: number, text: string, made?: (value: object) => void): object {
    const known = this.#kept.get(serial);
    if (known !== undefined) return known.value;
    const parsed = JSON.parse(text) as object;
    const value = typeof parsed === 'object' && parsed !== null ? freeze(parsed) : parsed;
    made?.(value);
    if (serial > 0 && text.length <= BUDGET_CHARACTERS) {
      this.#kept.set(serial, { value, characters: text.length });
      this.#characters += text.length;
      // A Map iterates in the order of insertion: the oldest copy goes first.
      for (const [oldest, kept] of this.#kept) {
        if (this.#characters <= BUDGET_CHARACTERS) break;
        this.#kept.delete(oldest);
        this.#characters -= kept.characters;
      }
    }
    return value;
  }

  get size(): number {
    return this.#kept.size;
  }
}

/** Freezes a parsed value all the way down. */
function freeze<T extends object>(value: T): T {
  if (Array.isArray(value)) {
    // By name it takes three times as long: every index would become a text.
    for (const inner of value as readonly unknown[]) freezeInner(inner);
  } else {
    // Not Object.values(): what JSON.parse made has only own properties, and no array is needed to visit them.
    for (const name in value) freezeInner(value[name]);
  }
  return Object.freeze(value);
}

function freezeInner(inner: unknown): void {
  if (typeof inner === 'object' && inner !== null) freeze(inner);
}
