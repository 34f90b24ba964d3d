/**
 * Engines made, used and closed, or forgotten, many times. Prints what they leave behind: connections, memory, threads.
 * Invariant: every engine was really connected to both servers.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Connections, load, tell, threads } from './script-tools.mjs';

const CYCLES = 100;
const WARM_UP = 20;

const collect = /** @type {() => void} */ (globalThis.gc);

const api = load();
const connections = new Connections();
await connections.count();

/** @param {number} cycle */
async function used(cycle) {
  const engine = api.createEngine();
  await engine.isTokenBlacklisted(`cycle ${cycle}`);
  return engine;
}

async function residentMb() {
  collect();
  await sleep(50);
  return process.memoryUsage().rss / 1024 / 1024;
}

if (process.argv[2] === 'closed') {
  // Kept on purpose: closing must let go of connections, not the garbage collector.
  const kept = [];
  let [mb, count] = [0, 0];
  for (let cycle = 0; cycle < CYCLES; cycle += 1) {
    if (cycle === WARM_UP) [mb, count] = [await residentMb(), threads()];
    const engine = await used(cycle);
    await engine.close();
    kept.push(engine);
  }
  const left = await connections.settle(0, 0);
  kept.length = 0;
  tell({ left, grownMb: (await residentMb()) - mb, moreThreads: threads() - count });
} else {
  for (let cycle = 0; cycle < WARM_UP; cycle += 1) await used(cycle);
  for (let turn = 0; turn < 10; turn += 1) await residentMb();
  tell({ left: await connections.settle(0, 0) });
}
await connections.end();
