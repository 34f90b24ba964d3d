/**
 * One text for everything that means the same: canonical JSON in the manner of RFC 8785. Not a serializer: nothing is
 * read back from it, and what JSON would drop or replace in silence is refused instead.
 * Invariant: two values have the same text exactly if they carry the same data. Every property is read once, in one
 * pass that changes nothing and runs nothing of a value but its getters.
 */

import { isDate } from 'node:util/types';
import { InvalidArgumentError } from '../errors.js';

/** Of the text, in UTF-16 units: far above any question that a person asks. */
const MOST_CHARACTERS = 262_144;
const MOST_LEVELS = 64;
/** Characters of `"":0`. */
const SHORTEST_PROPERTY = 4;
const HALF_SURROGATE = /\p{Surrogate}/u;
/** What JSON writes as it is: nothing in it is escaped, and half of nothing. */
const PLAIN_TEXT = /^[ !#-[\]-~]*$/;
/** What is shown in a path as it is. */
const PLAIN_NAME = /^[A-Za-z_$][\w$]{0,63}$/;
const LONGEST_NAME_SHOWN = 40;

const PLAIN_EXPECTED =
  'a plain object or list is expected; turn a Map, a Set, bytes or an instance of a class into one first';

/**
 * Properties are in the order of their UTF-16 units, and one that is `undefined` is as if it were not there. The order
 * in a list is kept. -0 is 0. A Date is its ISO text: both denote the same moment, and JSON makes the one of the other
 * on its way between a browser and a server.
 */
export function canonical(field: string, value: unknown): string {
  return new Writer(field).write(value);
}

/** An object literal, also one of another realm, that does not decide itself what JSON carries of it. */
export function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return (prototype === null || isRoot(prototype)) && !hasToJson(value);
}

class Writer {
  readonly #field: string;
  /** From the outermost value to the present one. */
  readonly #path: (string | number)[] = [];
  readonly #around: object[] = [];
  #left = MOST_CHARACTERS;

  constructor(field: string) {
    this.#field = field;
  }

  write(value: unknown): string {
    switch (typeof value) {
      case 'string':
        return this.#text(value);
      case 'boolean':
        return this.#spend(String(value));
      case 'number':
        if (Number.isFinite(value)) return this.#spend(String(value));
        throw this.#refused(`${value} is no JSON; use null, or leave it out`);
      case 'bigint':
        throw this.#refused('a bigint is no JSON; pass it as text, or as a number if it is a safe integer');
      case 'object':
        return value === null ? this.#spend('null') : this.#object(value);
      default:
        throw this.#refused(`${typeof value} is no JSON; use null, or leave it out`);
    }
  }

  #object(value: object): string {
    if (isDate(value)) return this.#date(value);
    if (this.#around.includes(value))
      throw this.#refused('it contains itself; pass a copy without the cycle');
    if (this.#around.length >= MOST_LEVELS) {
      throw this.#refused(`it lies more than ${MOST_LEVELS} levels deep; pass it flatter`);
    }
    this.#around.push(value);
    const written = Array.isArray(value) ? this.#list(value) : this.#properties(value);
    this.#around.pop();
    return written;
  }

  #list(value: readonly unknown[]): string {
    const prototype: unknown = Object.getPrototypeOf(value);
    // The prototype of all lists is a list itself, in every realm; that of a class derived from Array is none.
    const isPlainList = Array.isArray(prototype) && isRoot(Object.getPrototypeOf(prototype));
    if (!isPlainList || hasToJson(value)) throw this.#refused(PLAIN_EXPECTED);
    const { length } = value;
    this.#room(length);
    let written = this.#spend('[');
    for (let at = 0; at < length; at += 1) {
      if (at > 0) written += this.#spend(',');
      this.#path.push(at);
      written += this.write(value[at]);
      this.#path.pop();
    }
    return written + this.#spend(']');
  }

  #properties(value: object): string {
    if (!isPlain(value)) throw this.#refused(PLAIN_EXPECTED);
    for (const name of Object.getOwnPropertySymbols(value)) {
      if (!Object.prototype.propertyIsEnumerable.call(value, name)) continue;
      throw this.#refused('one of its properties is named by a symbol, which is no JSON; leave it out');
    }
    const names = Object.keys(value);
    this.#room(names.length * SHORTEST_PROPERTY);
    let written = this.#spend('{');
    for (const name of names.sort()) {
      this.#path.push(name);
      const property = (value as Record<string, unknown>)[name];
      if (property !== undefined) {
        if (written !== '{') written += this.#spend(',');
        written += this.#text(name, 'its name') + this.#spend(':') + this.write(property);
      } else {
        // Costs as well although it adds nothing: the work is bounded like the text.
        this.#left -= SHORTEST_PROPERTY;
      }
      this.#path.pop();
    }
    return written + this.#spend('}');
  }

  #text(value: string, what = 'it'): string {
    this.#room(value.length);
    if (PLAIN_TEXT.test(value)) return this.#spend(`"${value}"`);
    if (!HALF_SURROGATE.test(value)) return this.#spend(JSON.stringify(value));
    throw this.#refused(`${what} holds half of a surrogate pair; well-formed text is expected`);
  }

  #date(value: Date): string {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || !isRoot(Object.getPrototypeOf(prototype))) throw this.#refused(PLAIN_EXPECTED);
    // Not its own methods: they may say something else.
    if (Number.isFinite(Date.prototype.getTime.call(value))) {
      return this.#spend(JSON.stringify(Date.prototype.toISOString.call(value)));
    }
    throw this.#refused('it is an invalid Date; pass a valid one, or null');
  }

  #spend(written: string): string {
    this.#room(written.length);
    this.#left -= written.length;
    return written;
  }

  #room(characters: number): void {
    if (characters <= this.#left) return;
    const why = `it is longer than ${MOST_CHARACTERS} characters of JSON; pass less, or a digest of it`;
    throw refused(this.#field, why);
  }

  #refused(why: string): InvalidArgumentError {
    return refused(this.#path.reduce<string>(below, this.#field), why);
  }
}

function below(path: string, step: string | number): string {
  if (typeof step === 'number') return `${path}[${step}]`;
  if (PLAIN_NAME.test(step)) return `${path}.${step}`;
  const shown = step.length > LONGEST_NAME_SHOWN ? `${step.slice(0, LONGEST_NAME_SHOWN)}…` : step;
  return `${path}[${JSON.stringify(shown)}]`;
}

/** What every object inherits from in the end: `Object.prototype`, of any realm. */
function isRoot(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return Object.getPrototypeOf(value) === null && Object.hasOwn(value, 'isPrototypeOf');
}

function hasToJson(value: object): boolean {
  return typeof Object.getOwnPropertyDescriptor(value, 'toJSON')?.value === 'function';
}

function refused(field: string, why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${field} is not accepted: ${why}`, { field });
}
