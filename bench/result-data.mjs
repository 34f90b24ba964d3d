/**
 * Results of data sources as the application's analysts ask for them: rows of `ih.agg_app_measures`, ordered as a query
 * returns them. Names and dates repeat, values do not, some names have letters that are not ASCII. Not the demo's data.
 * Invariant: the same rows on every run, other ones for every key, and a text of at most the size that is asked for.
 */

import { createHash } from 'node:crypto';

/**
 * @typedef {object} MeasureRow
 * @property {string} practice
 * @property {string} practice_primary
 * @property {number} practice_uid
 * @property {string} provider_name
 * @property {number} provider_uid
 * @property {string} measure
 * @property {string} measure_type
 * @property {string} frequency
 * @property {string} date_index
 * @property {number} measure_value
 *
 * @typedef {{ query_time_ms: number, data: MeasureRow[] }} Result what a query returns
 *
 * @typedef {object} Known one result and what to recognize it by
 * @property {Result} result
 * @property {string} tail its JSON without what is in front of `query_time_ms`, the times of the cache
 * @property {Buffer} tailBytes
 * @property {string} digest of the tail
 */

/** Longer than the times in front of a result and its punctuation. */
const TIMES_BYTES = 100;
const PLACES = [
  'Cedar Falls',
  'San José',
  'Northgate',
  'Lake Forest',
  'Peñasco',
  'Mount Vernon',
  'Riverside Park',
];
const KINDS = [
  'Family Medicine Associates',
  'Pediatrics and Adolescent Medicine',
  'Orthopedic Surgery Center',
  "Women's Health",
  'Cardiology Consultants, P.C.',
];
const FIRST = ['Alice', 'José', 'Margaret', 'Wei', 'Oluwaseun', 'Priya', 'Zoë', 'William', 'Fatima', 'Noah'];
const LAST = [
  'Anderson',
  'García-López',
  'Okafor',
  'Nguyen',
  'Müller',
  'Whitfield-Barnes',
  'Patel',
  'O’Connor',
];
const MEASURES = [
  ['Charges', 'currency'],
  ['Payments', 'currency'],
  ['Patient Visits', 'count'],
  ['New Patient Percentage', 'percent'],
];
const PRACTICES = 100;
const PERIODS = 36;

/** A whole number below `below` that looks like none in particular: murmur's last steps. @param {number} n @param {number} below */
function noise(n, below) {
  let mixed = Math.imul(n ^ (n >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) % below;
}

/** @param {number} at @param {readonly T[]} list @template T */
const pick = (list, at) => /** @type {T} */ (list[at % list.length]);

/** @param {string} type @param {number} n */
function measured(type, n) {
  if (type === 'percent') return noise(n, 10_000) / 100;
  return type === 'count' ? 20 + noise(n, 480) : noise(n, 9_000_000) / 100;
}

/** @param {number} index which of the results */
function* rowsOf(index) {
  for (const [measure, measure_type] of /** @type {[string, string][]} */ (MEASURES)) {
    for (let one = 0; one < PRACTICES; one += 1) {
      const practice_uid = 101 + ((one + index * 13) % PRACTICES);
      const practice = `${pick(PLACES, practice_uid)} ${pick(KINDS, noise(practice_uid, 1_000))}`;
      const providers = 2 + noise(practice_uid + 7, 14);
      for (let provider = 0; provider < providers; provider += 1) {
        const provider_uid = practice_uid * 100 + provider;
        const provider_name = `${pick(FIRST, noise(provider_uid, 997))} ${pick(LAST, noise(provider_uid, 499))}, MD`;
        for (let period = 0; period < PERIODS; period += 1) {
          yield {
            practice,
            practice_primary: practice,
            practice_uid,
            provider_name,
            provider_uid,
            measure,
            measure_type,
            frequency: 'Monthly',
            date_index: new Date(Date.UTC(2022, period, 1)).toISOString().slice(0, 10),
            measure_value: measured(measure_type, provider_uid * 40 + period + index * 1_000_003),
          };
        }
      }
    }
  }
}

/** Of at most so many bytes of JSON, times included. @param {number} bytes @param {number} index @returns {Known} */
export function knownResult(bytes, index) {
  const data = [];
  let left = bytes - TIMES_BYTES;
  for (const row of rowsOf(index)) {
    left -= Buffer.byteLength(JSON.stringify(row)) + 1;
    if (left < 0) break;
    data.push(row);
  }
  if (left >= 0) throw new Error(`there are not enough rows for ${bytes} bytes`);
  const result = { query_time_ms: 7, data };
  const tail = JSON.stringify(result).slice(1);
  return { result, tail, tailBytes: Buffer.from(tail), digest: digestOf(tail) };
}

/** @param {string | Buffer} tail */
export const digestOf = (tail) => createHash('sha256').update(tail).digest('base64url');
