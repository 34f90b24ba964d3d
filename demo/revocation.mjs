/**
 * Takes a role away and asks until the request is refused: once told by a call on another engine, once told by nobody.
 * Invariant: a request is refused for the missing permission or let in; anything else is a wrong answer. Times begin
 * with the call, or with the moment Postgres has confirmed the commit.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { addColleague } from './colleague.mjs';
import { PERMISSION } from './dashboard.mjs';
import { isShared } from './engines.mjs';
import { percentiles } from './figures.mjs';
import { withOutbox } from './outbox.mjs';

const POLL_MS = 200;
/** Nothing came within two polls and a little: whatever was written before has been heard. */
const QUIET_MS = 2 * POLL_MS + 100;
const SETTLE_LIMIT_MS = 15_000;
const REFUSED_LIMIT_MS = 10_000;

/**
 * @param {{ database: Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>, pool: import('pg').Pool,
 *   engines: Awaited<ReturnType<typeof import('./engines.mjs').openEngines>>,
 *   signer: ReturnType<typeof import('./tokens.mjs').createSigner>,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>, rounds: { call: number, tail: number },
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function playRevocations(input) {
  const colleague = await addColleague(input.database, input.pool);
  const token = input.signer.sign({ userId: colleague.userId });
  const { verify } = input.signer;
  const ask = (engine) => engine.authorizeRequest({ token, verify, permission: PERMISSION });
  try {
    const call = await byCall(input, colleague, ask);
    const tail = await withOutbox(input.database, () => byTail(input, colleague, ask));
    return { call, tail };
  } finally {
    await colleague.remove();
  }
}

async function openTwo(engines, part, more) {
  const first = await engines.open(part, more);
  return isShared(first) ? [first, await engines.open(part, more)] : [first];
}

const outcome = (result) => (result.ok ? 'let in' : result.reason);

async function byCall({ engines, judge, rounds, say }, colleague, ask) {
  const all = await openTwo(engines, 'call');
  const [asked] = all;
  const told = all.at(-1);
  const expectEverywhere = async (name, expected) => {
    for (const [i, engine] of all.entries())
      judge.equal(`role taken away: ${name}, engine ${i + 1}`, outcome(await ask(engine)), expected);
  };
  const refusedMs = [];
  let letInBefore = 0;
  let letIn = 0;
  for (let round = 0; round < rounds.call; round += 1) {
    say('a role is taken away, one engine is told', { done: round, total: rounds.call });
    await expectEverywhere('before', 'let in');
    await colleague.takeRole();
    letInBefore += (await ask(asked)).ok ? 1 : 0;
    const from = performance.now();
    const { acknowledged } = await told.invalidateUserContext(colleague.userId, 'role_removed');
    const next = outcome(await ask(asked));
    refusedMs.push(performance.now() - from);
    judge.equal('role taken away: the call is acknowledged', acknowledged, true);
    letIn += next === 'let in' ? 1 : 0;
    judge.equal('role taken away: the next request', next, 'forbidden');
    await expectEverywhere('after', 'forbidden');
    await colleague.giveRole();
    await told.invalidateUserContext(colleague.userId, 'role_assigned');
  }
  await expectEverywhere('given back', 'let in');
  return { engines: all.length, rounds: rounds.call, letInBefore, letIn, ms: percentiles(refusedMs) };
}

async function byTail({ engines, judge, rounds, say }, colleague, ask) {
  say('a role is taken away, nobody is told');
  const all = await openTwo(engines, 'tail', { cacheTailEnabled: true, cacheTailPollMs: POLL_MS });
  if (all[0].getMetrics().store.kind === 'none')
    return { skipped: 'no store is configured: nothing is kept' };
  const refusedMs = [];
  let letIn = 0;
  for (let round = 0; round < rounds.tail; round += 1) {
    say('a role is taken away, nobody is told', { done: round, total: rounds.tail });
    if (!(await settled(all, ask, judge))) break;
    await colleague.takeRole();
    const from = performance.now();
    await Promise.all(
      all.map(async (engine, i) => {
        let word = outcome(await ask(engine));
        for (
          ;
          word === 'let in' && performance.now() - from < REFUSED_LIMIT_MS;
          word = outcome(await ask(engine))
        ) {
          letIn += 1;
          await sleep(1);
        }
        refusedMs.push(performance.now() - from);
        judge.equal(`role taken away, nobody told: engine ${i + 1}`, word, 'forbidden');
      }),
    );
    await colleague.giveRole();
  }
  if (refusedMs.length === 0) return { skipped: 'the engines did not come to rest' };
  // Given back by nothing but the tail, too.
  await settled(all, ask, judge);
  const tails = all.map((engine) => engine.getMetrics().tail);
  return {
    engines: all.length,
    rounds: refusedMs.length / all.length,
    states: tails.map((tail) => tail.state),
    pollMs: POLL_MS,
    letIn,
    ms: percentiles(refusedMs),
    errors: tails.reduce((sum, tail) => sum + tail.errors, 0),
  };
}

/**
 * Waits until every engine lets the colleague in from what it has kept, and no change is on its way that might void
 * that: what is refused afterwards is refused because of what comes afterwards.
 */
async function settled(all, ask, judge) {
  const until = performance.now() + SETTLE_LIMIT_MS;
  const read = () =>
    all.map((engine) => {
      const { source, tail } = engine.getMetrics();
      const { tail_poll = 0, tail_prune = 0 } = source.statementsByName;
      return {
        state: tail.state,
        events: tail.events,
        statements: source.statements - tail_poll - tail_prune,
      };
    });
  for (;;) {
    for (const engine of all) await ask(engine);
    const before = read();
    await sleep(QUIET_MS);
    const words = await Promise.all(all.map(async (engine) => outcome(await ask(engine))));
    const after = read();
    const quiet = after.every(
      ({ events, statements }, i) => events === before[i].events && statements === before[i].statements,
    );
    const heard = after.some(({ state }) => state === 'leading' || state === 'alone');
    const rested = quiet && heard && words.every((word) => word === 'let in');
    if (!rested && performance.now() < until) continue;
    const name = `nobody told: let in again, and at rest, within ${SETTLE_LIMIT_MS / 1000} s`;
    judge.equal(name, rested || { words, before, after }, true);
    return rested;
  }
}
