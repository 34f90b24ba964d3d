/**
 * A burst of requests of one visitor over a rate limit, from two engines at once: with the store in order, without it,
 * and after it came back. Where the store of the run is not shared, a Valkey is started for this part, and fetched as the
 * tests do it when there is none; where none can be had, one engine plays alone and says why. Only such a server is
 * stopped in the middle, never somebody's.
 * Invariant: what was admitted is counted from the answers, and judged against the limit and the stated bound.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { localValkey } from '../__test__/servers/binaries.mjs';
import { startValkey } from '../__test__/servers/index.mjs';
import { isShared } from './engines.mjs';
import { percentiles } from './figures.mjs';

const LIMIT = 50;
const WINDOW_SECONDS = 60;
const BURST = 400;
const REPEATS = 500;
const HEARD_LIMIT_MS = 10_000;

/**
 * @param {{ database: Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>,
 *   engines: Awaited<ReturnType<typeof import('./engines.mjs').openEngines>>,
 *   judge: ReturnType<typeof import('./judge.mjs').createJudge>,
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function playLimits({ database, engines, judge, say }) {
  say('a visitor sends too many requests');
  const first = await engines.open('limits');
  if (isShared(first)) return play([first, await engines.open('limits')], undefined, judge, say);
  const { server, why } = await ownValkey(say);
  if (server === undefined) return { ...(await play([first], undefined, judge, say)), alone: why };
  const stop = database.owe(() => server.stop());
  const reach = { cacheStore: 'valkey', redisHost: server.host, redisPort: server.port };
  const both = [await engines.open('limits', reach), await engines.open('limits', reach)];
  try {
    return await play(both, server, judge, say);
  } finally {
    await Promise.all(both.map((engine) => engine.close()));
    await stop();
  }
}

/** A server of this part alone, or why there is none: a demo without a network plays what it can. */
async function ownValkey(say) {
  try {
    if ((await localValkey()) === undefined) say('fetching a Valkey (once, 2 MB, into .servers/)');
    const server = await startValkey();
    say('a visitor sends too many requests');
    return { server };
  } catch (error) {
    return { why: error.message };
  }
}

async function play(all, server, judge, say) {
  const most = all[0].getMetrics().store.kind === 'none' ? LIMIT * all.length : LIMIT;
  await knowEachOther(all, server);
  const visitor = 'ip:192.0.2.7';
  const check = (engine, who = visitor) => engine.checkRateLimit('demo', who, LIMIT, WINDOW_SECONDS);
  const burst = async (who) => {
    const asked = Array.from({ length: BURST }, (_, at) => check(all[at % all.length], who));
    return (await Promise.all(asked)).filter((result) => result.allowed).length;
  };
  const admitted = await burst(visitor);
  judge.equal('rate limit: a burst is admitted up to the limit', admitted, most);
  const repeated = await denied(all, check, judge);
  const result = { engines: all.length, limit: LIMIT, burst: BURST, admitted, ...repeated };
  if (server === undefined)
    return { ...result, outage: { skipped: 'the server is not of the demo: it is not stopped' } };
  say('a visitor sends too many requests while the store is stopped');
  return { ...result, outage: await outage(all, server, check, burst, judge) };
}

/** What is known to be denied is denied without asking. */
async function denied(all, check, judge) {
  await Promise.all(all.map((engine) => check(engine)));
  const commands = () => all.reduce((sum, engine) => sum + engine.getMetrics().store.commands, 0);
  const near = () => all.reduce((sum, engine) => sum + engine.getMetrics().limiter.deniedNear, 0);
  const before = { commands: commands(), near: near() };
  let allowed = 0;
  for (let at = 0; at < REPEATS; at += 1) allowed += (await check(all[at % all.length])).allowed ? 1 : 0;
  judge.equal('rate limit: who is denied stays denied', allowed, 0);
  // Heartbeats of the engines among them, a few a second.
  return { repeats: REPEATS, commands: commands() - before.commands, deniedNear: near() - before.near };
}

async function outage(all, server, check, burst, judge) {
  const visitor = 'ip:198.51.100.7';
  await server.pause();
  const firstMs = await timed(() => check(all[0], visitor));
  const admitted = (await burst(visitor)) + 1;
  const afterwards = [];
  for (let at = 0; at < 200; at += 1) afterwards.push(await timed(() => check(all[0], visitor)));
  judge.equal('rate limit: without the store the shares are the limit', admitted <= LIMIT, true);
  judge.equal('rate limit: without the store it is not closed', admitted > LIMIT / 2, true);
  await server.resume();
  const until = performance.now() + HEARD_LIMIT_MS;
  let back;
  do {
    await sleep(20);
    back = await check(all[0], visitor);
  } while (back.degraded && performance.now() < until);
  const counted = (await all[0].peekRateLimit('demo', visitor, LIMIT, WINDOW_SECONDS)).current;
  const total = admitted + (await burst(visitor)) + (back.allowed ? 1 : 0);
  judge.equal('rate limit: what was admitted without the store counts with it', total <= LIMIT, true);
  return { admitted, firstMs, ms: percentiles(afterwards), counted, total };
}

/** Each has to have heard of the other, to know its share. */
async function knowEachOther(all, server) {
  if (server === undefined) return;
  const until = performance.now() + HEARD_LIMIT_MS;
  for (;;) {
    await Promise.all(all.map((engine) => engine.checkRateLimit('demo', 'nobody', LIMIT, WINDOW_SECONDS)));
    const known = await Promise.all(all.map(async (engine) => (await engine.getHealth()).limiter.instances));
    if (known.every((instances) => instances === all.length) || performance.now() > until) return;
    await sleep(50);
  }
}

async function timed(play) {
  const from = performance.now();
  await play();
  return performance.now() - from;
}
