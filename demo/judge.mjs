/**
 * Collects what was right and what was not. Knows nothing of the demo.
 * Invariant: a run is right when `failed` stays empty, and a failure says where two answers part.
 */
import { isDeepStrictEqual } from 'node:util';

export function createJudge() {
  const failed = [];
  let passed = 0;
  return {
    failed,
    passed: () => passed,
    /** @param {string} name @param {unknown} given @param {unknown} expected */
    equal(name, given, expected) {
      if (isDeepStrictEqual(given, expected)) {
        passed += 1;
        return;
      }
      const at = difference(given, expected);
      failed.push({ name: `${name}${at.path}`, given: brief(at.given), expected: brief(at.expected) });
    },
  };
}

/** The first place, and the innermost, where two values differ. */
function difference(given, expected, path = '') {
  if (isContainer(given) && isContainer(expected) && Array.isArray(given) === Array.isArray(expected)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(given)])) {
      if (!isDeepStrictEqual(given[key], expected[key]))
        return difference(given[key], expected[key], `${path}.${key}`);
    }
  }
  return { path: path === '' ? '' : `, at ${path.slice(1)}`, given, expected };
}

const isContainer = (value) => typeof value === 'object' && value !== null;
const brief = (value) => (JSON.stringify(value) ?? String(value)).slice(0, 160);
