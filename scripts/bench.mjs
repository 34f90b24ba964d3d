/**
 * `npm run bench [-- --quick] [--only NAME]... [--json FILE]`: sets up what is missing, measures, prints Markdown.
 * `--full` gives the peer of the analytics index the largest table as well, which takes it minutes and gigabytes.
 * Not a timed test: it fails when an answer is wrong, never because something was slow.
 */

import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { cwd, root, run } from './run.mjs';

const NAMES = [
  'near',
  'store',
  'rbac',
  'request',
  'limit',
  'datasource',
  'jwt',
  'analytics',
  'spin',
  'footprint',
];

const progress = (/** @type {string} */ text) => process.stderr.write(`bench: ${text}\n`);

function fail(/** @type {string} */ message) {
  process.stderr.write(`bench: ${message}\n`);
  process.exit(2);
}

function options() {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'string' },
        quick: { type: 'boolean', default: false },
        full: { type: 'boolean', default: false },
        only: { type: 'string', multiple: true, default: NAMES },
      },
    });
    const unknown = values.only.find((name) => !NAMES.includes(name));
    return unknown ? fail(`--only ${unknown}: expected one of ${NAMES.join(', ')}`) : values;
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

/** Whether the peers are those of the lock file. */
function isInstalled() {
  const made = new URL('bench/node_modules/.package-lock.json', root);
  return (
    existsSync(made) && statSync(made).mtimeMs >= statSync(new URL('bench/package-lock.json', root)).mtimeMs
  );
}

function setUp() {
  if (!existsSync(new URL('node_modules/@napi-rs/cli', root))) {
    progress('installing the dependencies');
    run('npm', ['ci']);
  }
  if (!isInstalled()) {
    progress('installing the peers');
    run('npm', ['ci'], { cwd: `${cwd}/bench` });
  }
  const built =
    readdirSync(root).some((name) => name.endsWith('.node')) && existsSync(new URL('dist/index.js', root));
  if (!built) {
    progress('building the add-on');
    run(process.execPath, ['scripts/build.mjs']);
  }
}

const { json, quick, full, only } = /** @type {NonNullable<ReturnType<typeof options>>} */ (options());
setUp();

// Imported late: these need what the set-up installs.
const { startValkey } = await import('../__test__/servers/index.mjs');
const { fill } = await import('../bench/data.mjs');
const { conditionsText, describe, tableText } = await import('../bench/report.mjs');
const load = async (/** @type {string} */ name) => {
  const module = await import(`../bench/${name === 'spin' ? 'store' : name}.mjs`);
  return module[name];
};

const plan = quick
  ? {
      rounds: 3,
      roundMs: 60,
      children: 3,
      concurrencies: [1, 100],
      people: 2_000,
      identifiers: 10_000,
      analytics: { sizes: [50_000], mainRows: 50_000, peerRows: 50_000 },
    }
  : {
      rounds: 5,
      roundMs: 500,
      children: 15,
      concurrencies: [1, 10, 100, 1_000],
      people: 20_000,
      identifiers: 100_000,
      analytics: {
        sizes: [100_000, 1_000_000, 5_000_000],
        mainRows: 1_000_000,
        peerRows: full ? 5_000_000 : 1_000_000,
      },
    };

const started = performance.now();
progress('starting Valkey');
const server = await startValkey();
let code = 0;
try {
  const about = describe(server);
  progress('filling the store');
  await fill(server);
  const measurements = [];
  for (const name of only) {
    const measure = await load(name);
    for (const table of await measure({ server, progress, ...plan })) {
      measurements.push({ measurement: name, ...table });
      process.stdout.write(`${tableText(table)}\n\n`);
    }
  }
  process.stdout.write(`${conditionsText(about, plan)}\n`);
  const seconds = Math.round((performance.now() - started) / 1_000);
  progress(`done in ${seconds} s`);
  if (json !== undefined) {
    writeFileSync(json, `${JSON.stringify({ ...about, quick, plan, seconds, measurements }, null, 2)}\n`);
  }
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.stack : error}\n`);
  code = 1;
} finally {
  await server.stop();
}
// A peer's library may leave a handle behind; the figures are out.
process.exit(code);
