/**
 * Near hit, awaited: the value is in this process and nobody is asked. Keys are built per call, as applications do.
 * Ours is opted in to it (`bounded`) for users; for tokens it is the default, for revoked ids only.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { KEYS, revokedTokens, users, withEngines } from './data.mjs';
import { compare } from './measure.mjs';
import { inMemory, MEMORY_BASE } from './memory.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */

/** Until the near copies are served without asking. @param {import('../index.js').Engine} ours */
async function warm(ours) {
  for (const id of revokedTokens) await ours.isTokenBlacklisted(id);
  for (let tries = 0; tries < 100; tries += 1) {
    const before = ours.getMetrics().bridge.submitted;
    for (const { user_id } of users) await ours.getUserById(user_id);
    if (ours.getMetrics().bridge.submitted === before) return;
    await sleep(50);
  }
  throw new Error('near copies were never served without asking the store');
}

/** @type {import('./report.mjs').Measurement['run']} */
export function near(conditions) {
  // The longest age allowed is a minute; whatever gets older is asked for again, and counted below.
  const user_basic = { mode: /** @type {const} */ ('bounded'), maxAgeMs: 60_000 };
  return withEngines(conditions.server, [{ near: { user_basic } }], async (ours) => {
    await warm(ours);
    return [await token(ours, conditions), await user(ours, conditions)];
  });
}

/** @param {import('../index.js').Engine} ours @param {import('./report.mjs').Conditions} conditions */
async function token(ours, { rounds, roundMs, progress }) {
  progress('near hit: revoked token');
  const right = (/** @type {unknown} */ answer) => answer === true;
  const values = revokedTokens.map(() => true);
  const others = await inMemory('token_bl', revokedTokens, values, { right });
  /** @type {Variant} */
  const own = {
    name: 'bcos-cache `isTokenBlacklisted`',
    right,
    call: (index) => ours.isTokenBlacklisted(String(revokedTokens[index])),
  };
  const plan = { concurrency: 1, keys: KEYS, rounds, roundMs };
  const rows = await compare([own, ...others.variants], plan, 'in sequence');
  await others.close();
  return { title: 'Near hit, awaited: revoked token', base: MEMORY_BASE, rows };
}

/** @param {import('../index.js').Engine} ours @param {import('./report.mjs').Conditions} conditions */
async function user(ours, { rounds, roundMs, progress }) {
  progress('near hit: user object');
  const ids = users.map((one) => one.user_id);
  const right = (/** @type {unknown} */ answer, /** @type {number} */ index) =>
    JSON.stringify(answer) === JSON.stringify(users[index]);
  const others = await inMemory('user_basic', ids, users, { right });
  await warm(ours);
  const before = ours.getMetrics().bridge.submitted;
  /** @type {Variant} */
  const own = {
    name: 'bcos-cache `getUserById`, near `bounded`',
    right,
    call: (index) => ours.getUserById(String(ids[index])),
  };
  const plan = { concurrency: 1, keys: KEYS, rounds, roundMs };
  const rows = await compare([own, ...others.variants], plan, 'in sequence');
  const submitted = ours.getMetrics().bridge.submitted - before;
  await others.close();
  const note = `${submitted} of our calls asked the store in this table.`;
  return { title: 'Near hit, awaited: user object', base: MEMORY_BASE, rows, note };
}
