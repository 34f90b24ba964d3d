/**
 * What a call costs that no clock shows: JSON texts parsed, bytes of the JavaScript heap, time of its garbage collector,
 * commands, reads and CPU time of the server. Counted in a round of its own, because counting takes time.
 * Invariant: the server counts for itself, the same way for everybody; a peer is not believed about its round trips.
 */

import { GCProfiler, getHeapStatistics } from 'node:v8';

/** @typedef {import('./measure.mjs').Counter} Counter */
/** @typedef {import('../__test__/servers/index.mjs').Server} Server */

/**
 * What the server has executed, how often it found something to read (packets of commands, so round trips), and for how
 * long it worked.
 * @param {Server} server
 */
export async function serverCounts(server) {
  const info = String(await server.command('INFO', 'stats', 'cpu'));
  const of = (/** @type {string} */ name) =>
    Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? Number.NaN);
  const cpuUs = (of('used_cpu_user') + of('used_cpu_sys')) * 1e6;
  return { commands: of('total_commands_processed'), reads: of('total_reads_processed'), cpuUs };
}

/** Everything the heap was asked for between two moments: what the collections took away does not hide it. */
function heapMeter() {
  const profiler = new GCProfiler();
  profiler.start();
  let last = getHeapStatistics().used_heap_size;
  return () => {
    const end = getHeapStatistics().used_heap_size;
    const { statistics } = profiler.stop();
    let bytes = 0;
    let gcUs = 0;
    for (const { beforeGC, afterGC, cost } of statistics) {
      bytes += beforeGC.heapStatistics.usedHeapSize - last;
      last = afterGC.heapStatistics.usedHeapSize;
      gcUs += cost;
    }
    return { bytes: bytes + end - last, gcUs };
  };
}

/** @param {Server} server @returns {Counter} */
export function counter(server) {
  return async (round) => {
    const parse = JSON.parse;
    let parsed = 0;
    JSON.parse = (text, reviver) => {
      parsed += 1;
      return parse(text, reviver);
    };
    try {
      const before = await serverCounts(server);
      const heap = heapMeter();
      const calls = await round();
      const { bytes, gcUs } = heap();
      const after = await serverCounts(server);
      return {
        'JSON.parse': parsed / calls,
        'heap bytes': bytes / calls,
        'GC us': gcUs / calls,
        // Asking is one of each.
        'server commands': (after.commands - before.commands - 1) / calls,
        'server reads': (after.reads - before.reads - 1) / calls,
        'server CPU us': (after.cpuUs - before.cpuUs) / calls,
      };
    } finally {
      JSON.parse = parse;
    }
  };
}

/** Scripts the server was asked for. @param {Server} server */
async function scripts(server) {
  const info = String(await server.command('INFO', 'commandstats'));
  const calls = [...info.matchAll(/^cmdstat_(?:eval|evalsha):calls=(\d+)/gm)].map(([, count]) =>
    Number(count),
  );
  return calls.reduce((sum, count) => sum + count, 0);
}

/**
 * For limiters: the scripts that were sent beside all that was executed, what they call included.
 * @param {Server} server @returns {Counter}
 */
export function scriptCounter(server) {
  const count = counter(server);
  return async (round) => {
    let calls = 0;
    const before = await scripts(server);
    const counts = await count(async () => {
      calls = await round();
      return calls;
    });
    const sent = (await scripts(server)) - before;
    const { 'JSON.parse': _, 'server commands': executed, ...others } = counts;
    return { 'scripts sent': sent / calls, 'commands executed': Number(executed), ...others };
  };
}
