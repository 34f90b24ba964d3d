/**
 * What was measured as Markdown, and on what. No arithmetic beyond ratios: the figures come from `measure.mjs`.
 */

import { readFileSync } from 'node:fs';
import os from 'node:os';
import { BATCH } from './short.mjs';

/**
 * @typedef {import('./measure.mjs').Row} Row
 *
 * @typedef {object} Table
 * @property {string} title
 * @property {string} [base] name of the row the ratios refer to, in every group of rows
 * @property {Row[]} [rows]
 * @property {number} [concurrency]
 * @property {Record<string, number>} [values] for a table that compares nothing
 * @property {{ head: string[], lines: (string | number)[][] }} [grid] figures that are no calls
 * @property {string} [note]
 *
 * @typedef {object} Conditions
 * @property {import('../__test__/servers/index.mjs').Server} server
 * @property {number} rounds
 * @property {number} roundMs
 * @property {number} children
 * @property {number[]} concurrencies
 * @property {number} people how many users one role has
 * @property {number} identifiers how many of them a rate limit tells apart
 * @property {{ sizes: number[], mainRows: number, peerRows: number }} analytics rows of the tables that are warmed; the one that
 * is asked as well; up to how many the peer is warmed too
 * @property {(text: string) => void} progress
 *
 * @typedef {object} Measurement
 * @property {(conditions: Conditions) => Promise<Table[]>} run
 */

const OTHERS = [
  'ioredis',
  'redis',
  '@valkey/valkey-glide',
  'rate-limiter-flexible',
  'bentocache',
  'layered-loader',
  'lru-cache',
  'cache-manager',
  'cacheable',
  'keyv',
  '@keyv/redis',
  // Not a peer: the stopwatch of the near hits.
  'mitata',
];

/** @param {string} path */
const version = (path) => JSON.parse(readFileSync(new URL(path, import.meta.url), 'utf8')).version;

/** @param {import('../__test__/servers/index.mjs').Server} server */
export function describe(server) {
  const cpus = os.cpus();
  return {
    date: new Date().toISOString(),
    machine: {
      cpu: cpus[0]?.model.trim() ?? 'unknown',
      cores: cpus.length,
      memoryGB: Math.round(os.totalmem() / 1e9),
      system: `${os.type()} ${os.release()} ${os.arch()}`,
      loadBefore: os.loadavg().map((load) => Number(load.toFixed(2))),
    },
    versions: {
      'bcos-cache': version('../package.json'),
      node: process.versions.node,
      [server.kind]: server.version,
      ...Object.fromEntries(OTHERS.map((name) => [name, version(`node_modules/${name}/package.json`)])),
      pg: version('../node_modules/pg/package.json'),
    },
  };
}

/** @param {number | null} value */
function figure(value) {
  if (value === null || Number.isNaN(value)) return '-';
  if (value >= 1_000) return Math.round(value).toLocaleString('en-US');
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : value >= 1 ? 2 : 3);
}

/** @param {string[]} head @param {string[][]} lines */
function markdown(head, lines) {
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'));
  return [head, rule, ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** @param {Table} table */
export function tableText({ title, base, rows, values, grid, note }) {
  const parts = [`### ${title}`];
  if (values) {
    parts.push(
      markdown(
        ['', 'value'],
        Object.entries(values).map(([name, value]) => [name, figure(value)]),
      ),
    );
  }
  if (grid) {
    const text = (/** @type {string | number} */ cell) => (typeof cell === 'number' ? figure(cell) : cell);
    parts.push(
      markdown(
        grid.head,
        grid.lines.map((line) => line.map(text)),
      ),
    );
  }
  if (rows) {
    const peerOf = (/** @type {Row} */ row) =>
      rows.find(({ name, group }) => name === base && group === row.group);
    const nameOf = (/** @type {Row} */ { name, group }) => (group === undefined ? name : `${group}: ${name}`);
    const ratio = (/** @type {number | null} */ ours, /** @type {number | null | undefined} */ theirs) =>
      ours === null || !theirs ? '-' : (ours / theirs).toFixed(2);
    const timed = rows.some(({ p50Us }) => !Number.isNaN(p50Us));
    const head = ['', 'calls/s', `x ${base?.replaceAll('`', '')}`];
    head.push(...(timed ? ['p50 us', 'x', 'p99 us'] : ['us per call']), 'JS CPU us', 'x', 'process CPU us');
    const lines = rows.map((row) => {
      const peer = peerOf(row);
      return [
        nameOf(row),
        figure(row.opsPerSecond),
        ratio(row.opsPerSecond, peer?.opsPerSecond),
        ...(timed
          ? [figure(row.p50Us), ratio(row.p50Us, peer?.p50Us), figure(row.p99Us)]
          : [figure(1e6 / row.opsPerSecond)]),
        figure(row.jsCpuUs),
        ratio(row.jsCpuUs, peer?.jsCpuUs),
        figure(row.processCpuUs),
      ];
    });
    parts.push(markdown(head, lines));
    const counted = Object.keys(rows.find(({ counts }) => counts)?.counts ?? {});
    if (counted.length > 0) {
      const counts = rows.map((row) => [
        nameOf(row),
        ...counted.map((name) => figure(row.counts?.[name] ?? null)),
      ]);
      parts.push(markdown(['counted, per call', ...counted], counts));
    }
  }
  if (note) parts.push(note);
  return parts.join('\n\n');
}

/** @param {ReturnType<typeof describe>} about @param {Pick<Conditions, 'rounds' | 'roundMs'>} plan */
export function conditionsText({ date, machine, versions }, { rounds, roundMs }) {
  return [
    '## Conditions',
    `- ${date}; ${machine.cores} x ${machine.cpu}, ${machine.memoryGB} GB, ${machine.system}; load average before: ${machine.loadBefore.join(', ')}.`,
    `- ${Object.entries(versions)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ')}.`,
    `- Client and server share the machine, over loopback. One process, variants by turns, first round discarded, medians of ${rounds} rounds of ${roundMs} ms. Closed loop.`,
    '- "JS CPU" is the CPU time of the JavaScript thread per call, "process CPU" that of the whole client process; the server is in neither. Ratios ("x") refer to the peer named in the third column.',
    `- Near hits are timed by mitata in batches of ${BATCH} calls, one after the other; p50 and p99 are of means over a batch.`,
    '- "Counted" figures are of a round of its own, which is not timed: heap bytes are all that was allocated, server figures are differences of its INFO.',
  ].join('\n');
}
