/**
 * Waves of worker threads on the default engine and on engines of their own, some ended in the middle of their calls.
 * Prints what the main thread saw. Invariant: the main thread works on all the time.
 */
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Connections, load, slow, tell } from './script-tools.mjs';

const WAVES = 4;
const THREADS = 8;
const CALLS = 100;

/** @typedef {{ wave: number, thread: number, own: boolean, ended: boolean }} Role */

/** @param {Role} role */
async function thread({ wave, thread, own, ended }) {
  const api = load();
  const engine = own ? api.createEngine(slow) : api;
  const calls = Array.from({ length: CALLS }, (_, call) =>
    engine.isTokenBlacklisted(`${wave}-${thread}-${call}`),
  );
  // What is ended in the middle has all its calls under way: handed over when this code has come to its end.
  await undefined;
  if (ended) parentPort?.postMessage({ kind: 'under way' });
  const answers = await Promise.all(calls);
  const { uptimeMs, bridge } = api.getMetrics();
  if (own) await /** @type {import('../../index.js').Engine} */ (engine).close();
  parentPort?.postMessage({ kind: 'done', right: answers.every((one) => one === false), uptimeMs, bridge });
}

/** @param {Role} role */
async function start(role) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: role });
  // Asked for at once: the end of a short thread comes together with its last message. An error rejects both.
  const [first, end] = [once(worker, 'message'), once(worker, 'exit')];
  end.catch(() => undefined);
  const [message] = await first;
  if (role.ended) await worker.terminate();
  await end;
  return /** @type {{ right?: boolean, uptimeMs?: number, bridge?: { submitted: number } }} */ (message);
}

async function main() {
  const api = load();
  api.configure(slow);
  const connections = new Connections();
  await connections.count();
  await api.isTokenBlacklisted('first');
  let [mainCalls, threadCalls, wrong, youngerEngines, working] = [1, 0, 0, 0, true];
  const work = async () => {
    while (working) {
      if (await api.isTokenBlacklisted(`main-${mainCalls % 50}`)) wrong += 1;
      mainCalls += 1;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };
  const oldest = api.getMetrics().uptimeMs;
  for (let wave = 0; wave < WAVES; wave += 1) {
    working = true;
    const worked = work();
    const roles = Array.from({ length: THREADS }, (_, thread) => ({
      ...{ wave, thread },
      own: thread % 2 === 1,
      ended: wave > 0 && thread % 4 >= 2,
    }));
    const seen = await Promise.all(roles.map(start));
    working = false;
    await worked;
    for (const [index, { right, uptimeMs = 0 }] of seen.entries()) {
      if (roles[index]?.ended) continue;
      if (!right) wrong += 1;
      if (uptimeMs < oldest) youngerEngines += 1;
    }
    threadCalls += CALLS * roles.filter(({ own }) => !own).length;
  }
  // Calls of ended threads count as well: they were submitted before the thread said so.
  tell({ uncounted: mainCalls + threadCalls - api.getMetrics().bridge.submitted });
  const after = await api.isTokenBlacklisted('last');
  // One connection of the default engine to the store; engines of gone threads hold none.
  const left = await connections.settle(1, 8);
  await connections.end();
  tell({ wrong, youngerEngines, after, storeConnections: left.store });
}

await (isMainThread ? main() : thread(workerData));
