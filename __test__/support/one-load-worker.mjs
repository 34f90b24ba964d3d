/**
 * One process of the one-load test: many callers at once on one key, on command. It reports what they got, what its
 * engine counted, and when a load of its own is under way. Invariant: it never ends before all callers have an answer.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import bcos from '../../index.js';

/** How often it looks whether it leads, in milliseconds. */
const LOOK_MS = 5;

/**
 * @typedef {{ options: import('../../index.js').EngineOptions }} Task
 * @typedef {{ kind: string, call: 'getUserById' | 'isTokenBlacklisted' | 'verifyTokenCached', argument: string,
 *   payload: object, verifyMs: number, callers: number }} Order
 */

/** @type {import('../../index.js').Engine} */
let engine;
let verified = 0;
/** Whether a caller of this process runs `verify`. */
let verifying = false;

/** @param {Order} order */
function call({ call, argument, payload, verifyMs }) {
  if (call !== 'verifyTokenCached') return engine[call](argument);
  return engine.verifyTokenCached(argument, async () => {
    verified += 1;
    verifying = true;
    await sleep(verifyMs);
    verifying = false;
    return payload;
  });
}

/** @param {Order} order */
async function crowd(order) {
  const before = engine.getMetrics().source.statements;
  verified = 0;
  const answers = Array.from({ length: order.callers }, () => call(order));
  let told = false;
  const look = setInterval(() => {
    if (told || !(verifying || engine.getMetrics().source.inFlight > 0)) return;
    told = true;
    process.send?.({ kind: 'leads' });
  }, LOOK_MS);
  const settled = await Promise.allSettled(answers);
  clearInterval(look);
  /** @type {Record<string, number>} How many callers got which answer. */
  const got = {};
  for (const one of settled) {
    const text = one.status === 'fulfilled' ? JSON.stringify(one.value) : one.reason.code;
    got[text] = (got[text] ?? 0) + 1;
  }
  const statements = engine.getMetrics().source.statements - before;
  process.send?.({ kind: 'answered', got, statements, verified });
}

process.on('message', async (message) => {
  const { kind } = /** @type {{ kind: string }} */ (message);
  if (kind === 'task') {
    engine = bcos.createEngine(/** @type {Task} */ (message).options);
    // Connections exist before the race: it is about loads, not about who connects first.
    await engine.isTokenBlacklisted('warm-up');
    process.send?.({ kind: 'ready' });
  }
  if (kind === 'crowd') await crowd(/** @type {Order} */ (message));
});
process.once('disconnect', () => process.exit());
