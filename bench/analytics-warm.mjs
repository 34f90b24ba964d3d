/**
 * Warming the analytics index end to end from Postgres: time, memory of the process, event loop, memory of the store, what
 * of it is index; then again with one row in a hundred changed, and the swap.
 * Invariant: a warm runs in a process of its own, and the store holds nothing of that side when it begins.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { changeRows } from './analytics-data.mjs';
import { OUR_PREFIX } from './data.mjs';
import { median } from './measure.mjs';
import { SeedIndex } from './seed-index.mjs';

/**
 * @typedef {import('../__test__/servers/index.mjs').Server} Server
 * @typedef {import('./analytics-child.mjs').Warmed} Warmed
 * @typedef {{ server: Server, url: string, pool: import('pg').Pool, progress: (text: string) => void }} Place
 * @typedef {{ totalMb: number, indexShare: number, keys: number }} Stored
 * @typedef {Warmed & { stored: Stored, usedMb: number }} Warm
 */

export const PREFIX = { ours: `${OUR_PREFIX}analytics:`, seed: 'seed:', written: 'written:' };
const CHILD_LIMIT_MS = 15 * 60_000;

/** @param {keyof typeof PREFIX} who @param {Place} place @returns {Promise<Warmed>} */
export async function warmInChild(who, { server, url }) {
  // The plan's way holds the whole table as objects: it gets what it needs, and the figure says how much that was.
  const child = fork(new URL('analytics-child.mjs', import.meta.url), {
    stdio: 'inherit',
    execArgv: ['--max-old-space-size=12288'],
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), CHILD_LIMIT_MS);
  try {
    child.send({ who, host: server.host, port: server.port, url, prefix: PREFIX[who] });
    const [answer] = await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code, signal]) => {
        throw new Error(`the process that warms (${who}) ended with ${code ?? signal}`);
      }),
    ]);
    if (answer.error) throw new Error(`warm of ${who}: ${answer.error}`);
    return answer.warmed;
  } finally {
    clearTimeout(timer);
    child.kill();
  }
}

/** Bytes of what the server holds, all told. @param {Server} server */
async function usedMemory(server) {
  const info = String(await server.command('INFO', 'memory'));
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? Number.NaN);
}

/** Keys of one side, their bytes by MEMORY USAGE, and how many of those are index. */
const STORED = `local all, index, keys = 0, 0, redis.call('KEYS', ARGV[1] .. '*')
local mark = ARGV[1] .. 'idx:'
for _, key in ipairs(keys) do
  local bytes = redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0)
  all = all + bytes
  if string.sub(key, 1, #mark) == mark then index = index + bytes end
end
return { all, index, #keys }`;

/** @param {Server} server @param {string} prefix @returns {Promise<Stored>} */
async function stored(server, prefix) {
  const [all, index, keys] = /** @type {number[]} */ (await server.command('EVAL', STORED, 0, prefix));
  return {
    totalMb: Number(all) / 1e6,
    indexShare: Number(index) / (Number(all) - Number(index)),
    keys: Number(keys),
  };
}

/** @param {Server} server @param {string} prefix */
export async function forget(server, prefix) {
  const script = "for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('UNLINK', key) end";
  await server.command('EVAL', script, 0, prefix);
}

/** The first warm of one side. @param {keyof typeof PREFIX} who @param {Place} place @returns {Promise<Warm>} */
export async function firstWarm(who, place) {
  const { server } = place;
  await forget(server, PREFIX[who]);
  const before = await usedMemory(server);
  const warmed = await warmInChild(who, place);
  const usedMb = ((await usedMemory(server)) - before) / 1e6;
  return { ...warmed, usedMb, stored: await stored(server, PREFIX[who]) };
}

/**
 * Again: nothing changed, one row in a hundred of some practices, one in a hundred everywhere; each beside a full warm.
 * @param {Place} place @param {number} times
 */
export async function warmAgain(place, times) {
  const { server, pool, progress } = place;
  /** @type {{ name: string, changed: number, warms: Warmed[] }[]} */
  const kinds = [
    { name: 'from nothing', changed: 0, warms: [] },
    { name: 'nothing changed', changed: 0, warms: [] },
    { name: '1 % changed, of some practices', changed: 0, warms: [] },
    { name: '1 % changed, everywhere', changed: 0, warms: [] },
  ];
  for (let turn = 0; turn < times; turn += 1) {
    for (const [at, kind] of kinds.entries()) {
      progress(`analytics: warm again, ${kind.name}`);
      if (at === 0) await forget(server, PREFIX.ours);
      if (at >= 2) {
        kind.changed = await changeRows(pool, at === 2);
        await pool.query('VACUUM ANALYZE ih.agg_app_measures');
      }
      kind.warms.push(await warmInChild('ours', place));
    }
  }
  return kinds.map(({ name, changed, warms }) => ({
    name,
    changed,
    ms: median(warms.map(({ ms }) => ms)),
    framesWritten: Number(warms.at(-1)?.result.framesWritten),
    framesReused: Number(warms.at(-1)?.result.framesReused),
  }));
}

/**
 * What the server says that the swap took: the slowest command at the live pointer during a warm, and the seed's way of giving
 * every key its name in one MULTI. @param {Place} place
 */
export async function swaps(place) {
  const { server, url } = place;
  const ours = await slowest(server, () => warmInChild('ours', place), /:live$/);
  const index = new SeedIndex({
    host: server.host,
    port: server.port,
    url,
    prefix: PREFIX.seed,
    dataSource: 1,
  });
  try {
    const { keys, ms } = await index.publish();
    return { oursMs: ours.us / 1_000, oursCommand: ours.command, seedMs: ms, seedKeys: keys };
  } finally {
    await index.close();
  }
}

/** @param {Server} server @param {() => Promise<unknown>} body @param {RegExp} key */
async function slowest(server, body, key) {
  await server.command('CONFIG', 'SET', 'slowlog-log-slower-than', 0);
  await server.command('CONFIG', 'SET', 'slowlog-max-len', 200_000);
  await server.command('SLOWLOG', 'RESET');
  try {
    await body();
    const log = /** @type {[number, number, number, string[]][]} */ (
      await server.command('SLOWLOG', 'GET', -1)
    );
    const there = log.filter(([, , , words]) => words.some((word) => key.test(word)));
    if (there.length === 0) throw new Error('no command at the live pointer was seen');
    const [, , us, words] = there.reduce((a, b) => (b[2] > a[2] ? b : a));
    return { us, command: String(words[0]).toUpperCase() };
  } finally {
    await server.command('CONFIG', 'SET', 'slowlog-log-slower-than', -1);
    await server.command('SLOWLOG', 'RESET');
  }
}
