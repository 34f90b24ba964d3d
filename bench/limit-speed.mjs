/**
 * What a check takes: admitted ones of many identifiers and of a single one, and denied ones of an identifier that is
 * blocked. Not how exact the answers are, see `limit-burst.mjs`.
 * Invariant: no limit is reached while checks are to be admitted, and none is left while they are to be denied: a check that
 * says otherwise ends the run.
 */

import { scriptCounter } from './counts.mjs';
import { KEYS, range } from './data.mjs';
import { FLEXIBLE, nameWithLimit, withLimiters } from './limiters.mjs';
import { compare } from './measure.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */
/** @typedef {import('./report.mjs').Conditions} Conditions */
/** @typedef {import('./limiters.mjs').Limiter} Limiter */
/** @typedef {import('./limiters.mjs').Makers} Makers */

/** Longer than any run. */
const WINDOW_SECONDS = 86_400;
/** About what a peer takes for all that a limit of 1,000 admits, alone and with many callers: a round has so many limits, one
 * after the other, that it lasts as long as others. A single one takes a few milliseconds, most of which would be waking up. */
const LIMIT_MS = { alone: 125, together: 12 };
/** Of the usual length: longer rounds tell nothing more here, and there are many tables. */
const ROUND = 0.5;
const AT_ONCE = 1_000;

const identifierOf = (/** @type {number} */ n) => `user-${String(n).padStart(6, '0')}`;

/** @type {(expected: boolean) => Variant['right']} */
const says = (expected) => (answer) => answer === expected;

/** One of many at random, the same ones for everybody. @param {Limiter} limiter @param {string[]} identifiers @returns {Variant} */
function spread({ name, check }, identifiers) {
  let state = 1;
  const call = () => {
    // Park and Miller's generator.
    state = (state * 48_271) % 2_147_483_647;
    return check(String(identifiers[state % identifiers.length]));
  };
  return { name, right: says(true), call };
}

/** One identifier at a time, a new one every round and whenever the limit is reached. @param {Limiter} limiter @returns {Variant} */
function hot({ name, limit, check }) {
  let rounds = 0;
  const prepare = async () => {
    rounds += 1;
  };
  const call = (/** @type {number} */ index) => check(`everybody-${rounds}-${Math.floor(index / limit)}`);
  return { name, prepare, right: says(true), call };
}

/** One identifier that has reached its limit. @param {Limiter} limiter @returns {Promise<Variant>} */
async function blocked({ name, check }) {
  while (await check('blocked'));
  return { name, right: says(false), call: () => check('blocked') };
}

/** Once or twice each: how a limit is stored may depend on how much counts. @param {Limiter} limiter @param {string[]} identifiers */
async function fill({ check }, identifiers) {
  for (let from = 0; from < identifiers.length; from += AT_ONCE) {
    const some = identifiers.slice(from, from + AT_ONCE);
    await Promise.all(some.map(check));
    await Promise.all(some.filter((_, n) => n % 2 === 0).map(check));
  }
}

/** @param {Makers} makers @param {Conditions} conditions */
async function manyIdentifiers(makers, { server, rounds, roundMs, concurrencies, identifiers, progress }) {
  const count = identifiers.toLocaleString('en-US');
  const all = range(identifiers).map(identifierOf);
  const rule = { type: 'api', limit: 100, windowSeconds: WINDOW_SECONDS };
  const large = makers.ours({ ...rule, type: 'big', limit: 50_000 });
  const limiters = [
    makers.ours(rule),
    { ...large, name: nameWithLimit(large) },
    makers.flexible(rule),
    makers.flexiblePipelining(rule),
    makers.twoBuckets(rule),
  ];
  progress(`rate limit: filling ${count} identifiers`);
  for (const limiter of limiters) await fill(limiter, all);
  const variants = limiters.map((limiter) => spread(limiter, all));
  const tables = [];
  for (const concurrency of concurrencies) {
    progress(`rate limit: ${count} identifiers, ${concurrency} concurrent`);
    const plan = { concurrency, keys: KEYS, rounds, roundMs };
    const rows = await compare(variants, plan, 'closed loop', scriptCounter(server));
    const title = `Rate limit of 100, admitted: ${count} identifiers, ${concurrency} concurrent`;
    tables.push({ title, base: FLEXIBLE, rows, concurrency });
  }
  return tables;
}

/** @param {Makers} makers @param {Conditions} conditions */
async function oneIdentifier(makers, { server, rounds, roundMs, concurrencies, progress }) {
  const rule = { type: 'hot', limit: 1_000, windowSeconds: WINDOW_SECONDS };
  const endless = { ...rule, type: 'wide', limit: 1_000_000 };
  /** @param {import('./limiters.mjs').Rule} rule */
  const variants = (rule) =>
    [makers.ours(rule), makers.flexible(rule), makers.flexiblePipelining(rule), makers.twoBuckets(rule)].map(
      hot,
    );
  const [few, many] = [variants(rule), variants(endless)];
  const counter = scriptCounter(server);
  const tables = [];
  for (const concurrency of concurrencies) {
    progress(`rate limit: one identifier, ${concurrency} concurrent`);
    const limits = Math.ceil(roundMs / (concurrency === 1 ? LIMIT_MS.alone : LIMIT_MS.together));
    const once = { concurrency, keys: rule.limit * limits, rounds, roundMs: 0 };
    tables.push({
      title: `Rate limit of 1,000, admitted: one identifier, ${concurrency} concurrent`,
      base: FLEXIBLE,
      rows: await compare(few, once, 'once each', counter),
      concurrency,
      note: `${rounds} rounds of ${limits} identifiers, one after the other: all that the limit admits, 1,000 calls each.`,
    });
    tables.push({
      title: `Rate limit of 1,000,000, admitted: one identifier, ${concurrency} concurrent`,
      base: FLEXIBLE,
      rows: await compare(many, { concurrency, keys: KEYS, rounds, roundMs }, 'closed loop', counter),
      concurrency,
    });
  }
  return tables;
}

/** @param {Makers} makers @param {Conditions} conditions */
async function denied(makers, { server, rounds, roundMs, concurrencies, progress }) {
  const rule = { type: 'deny', limit: 100, windowSeconds: WINDOW_SECONDS };
  const variants = [];
  for (const make of [
    makers.ours,
    makers.flexible,
    makers.flexibleBlocking,
    makers.twoBuckets,
    makers.twoBucketsBlocking,
  ])
    variants.push(await blocked(make(rule)));
  const tables = [];
  // With more callers there is nothing more to wait for: who denies by itself does it at once.
  for (const concurrency of concurrencies.filter((one) => one <= 100)) {
    progress(`rate limit: denied, ${concurrency} concurrent`);
    const plan = { concurrency, keys: KEYS, rounds, roundMs };
    const rows = await compare(variants, plan, 'closed loop', scriptCounter(server));
    const title = `Rate limit of 100, denied: one blocked identifier, ${concurrency} concurrent`;
    tables.push({ title, base: FLEXIBLE, rows, concurrency });
  }
  return tables;
}

/** @type {import('./report.mjs').Measurement['run']} */
export function limitSpeed(given) {
  const conditions = {
    ...given,
    roundMs: given.roundMs * ROUND,
    concurrencies: given.concurrencies.filter((one) => one !== 10),
  };
  const note = `Medians of ${conditions.rounds} rounds of ${conditions.roundMs} ms.`;
  return withLimiters(given.server, async (makers) => {
    /** @type {import('./report.mjs').Table[]} */
    const tables = [];
    for (const part of [manyIdentifiers, oneIdentifier, denied])
      tables.push(...(await part(makers, conditions)));
    return tables.map((table) => ({ note, ...table }));
  });
}
