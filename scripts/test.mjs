/**
 * `npm test`: set-up, then every check there is, in the order in which they fail fastest. Ends with one line
 * that says how many tests passed and failed. `-- --quick` shrinks the long ones, or leaves them out.
 * Invariant: a step that could not run counts as failed.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findRedis, findValkey } from '../__test__/servers/binaries.mjs';
import { startPgbouncer, startPostgres } from '../__test__/servers/index.mjs';
import { nodeTests } from './node-tests.mjs';
import { cwd } from './run.mjs';
import { setup, step } from './setup.mjs';

const quick = process.argv.includes('--quick');
const unknown = process.argv.slice(2).filter((given) => given !== '--quick');
if (unknown.length > 0) {
  process.stderr.write(`unknown argument ${unknown.join(' ')}: only --quick is known\n`);
  process.exit(2);
}

const env = { ...process.env, ...(quick ? { QUICK: '1', BCOS_SCHEDULES: '3000' } : {}) };
let passed = 0;
/** Names, said again at the end, where they are looked for. */
const failures = [];
/** Failed, and passed when run again alone. */
const unsteady = [];

/** A command that is one test: it succeeds or not. */
function check(name, command, given) {
  step(name);
  const { status } = spawnSync(command, given, { cwd, env, stdio: ['ignore', 'inherit', 'inherit'] });
  if (status === 0) passed += 1;
  else {
    failures.push(`${name} (exit code ${status})`);
    process.stderr.write(`FAILED: ${name} (exit code ${status})\n`);
  }
}

/** Neither the machine's own database nor its store: what is checked is what a person without them sees. */
const alone = Object.fromEntries(
  Object.entries(env).filter(([name]) => !/^(REDIS|UPSTASH|CACHE|DATABASE|ANALYTICS)_/.test(name)),
);

/** A command whose result, one JSON object, is looked at as well. `complaint`: what is wrong with it. */
function checkResult(name, given, read, complaint) {
  step(name);
  const result = spawnSync(process.execPath, given, {
    cwd,
    env: alone,
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });
  const wrong = result.status === 0 ? said(read, result, complaint) : `exit code ${result.status}`;
  if (wrong === undefined) passed += 1;
  else {
    failures.push(`${name} (${wrong})`);
    process.stderr.write(`FAILED: ${name} (${wrong})\n${String(result.stdout).slice(-4_000)}\n`);
  }
}

function said(read, result, complaint) {
  try {
    return complaint(JSON.parse(read(String(result.stdout))));
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The demo, with less data: every answer right, and the three ways of playing the dashboard counted. */
function demo() {
  checkResult(
    'demo, short',
    ['demo/run.mjs', '--quick', '--json'],
    (stdout) => stdout,
    ({ ok, checks, phases }) => {
      if (ok !== true || checks.failed.length > 0) return `wrong answers: ${JSON.stringify(checks.failed)}`;
      if (!(checks.passed > 100)) return `only ${checks.passed} answers were checked`;
      const totals = ['uncached', 'cold', 'warm'].map((name) => phases[name].statements.total.max);
      return totals[0] > totals[1] && totals[1] > totals[2] ? undefined : `statements: ${totals.join(', ')}`;
    },
  );
}

/** The benchmark, in its short form: that it works and compares, not how fast anything is. */
function bench() {
  const folder = mkdtempSync(join(tmpdir(), 'bcos-bench-'));
  const file = join(folder, 'result.json');
  const names = ['near', 'store', 'rbac', 'limit', 'analytics', 'footprint'];
  const given = [
    'scripts/bench.mjs',
    '--quick',
    ...names.flatMap((name) => ['--only', name]),
    '--json',
    file,
  ];
  const complaint = ({ measurements }) => {
    const missing = names.filter((name) => !measurements.some(({ measurement }) => measurement === name));
    if (missing.length > 0) return `no table of ${missing.join(', ')}`;
    const rows = measurements.flatMap((table) => table.rows ?? []);
    const empty = rows.find(
      ({ opsPerSecond, p50Us, p99Us }) => !(opsPerSecond > 0 && p50Us > 0 && p99Us > 0),
    );
    return empty === undefined ? undefined : `a row without figures: ${JSON.stringify(empty)}`;
  };
  checkResult('bench, short', given, () => readFileSync(file, 'utf8'), complaint);
  rmSync(folder, { recursive: true, force: true });
}

/** cargo test: its own closing lines are added up. */
function cargoTest(given, servers) {
  const result = spawnSync('cargo', ['test', '--locked', '-p', 'bcos-cache-core', ...given], {
    cwd,
    env: { ...env, ...servers },
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  });
  const output = String(result.stdout);
  process.stdout.write(output);
  let ran = 0;
  for (const line of output.matchAll(/^test result: .*? (\d+) passed;/gm)) ran += Number(line[1]);
  passed += ran;
  const broken = [...output.matchAll(/^test (.*) \.\.\. FAILED$/gm)].map((line) => `cargo test: ${line[1]}`);
  failures.push(...broken);
  if (broken.length === 0 && (result.status !== 0 || ran === 0))
    failures.push(`cargo test ${given.join(' ')} (exit code ${result.status}, ${ran} tests)`);
}

/** Some of the Rust tests compare with real servers. Those that need Postgres are ignored where there is none. */
async function rust() {
  step('Rust tests');
  const [valkey, redis] = await Promise.all([findValkey(), findRedis()]);
  cargoTest(['--no-fail-fast'], {
    BCOS_VALKEY_SERVER: valkey.path,
    BCOS_REDIS_SERVER: redis.path,
    ...valkey.env,
    ...redis.env,
  });
  step('Rust tests against Postgres');
  const postgres = await startPostgres();
  const pooler = await startPgbouncer({ port: postgres.port });
  const those = ['--lib', 'source::analytics::server_tests', '--', '--ignored', '--skip', 'measure'];
  try {
    cargoTest(those, {
      BCOS_POSTGRES_URL: postgres.url,
      BCOS_PGBOUNCER_URL: pooler.through(postgres.url),
    });
  } finally {
    await pooler.stop();
    await postgres.stop();
  }
}

/** vitest. */
function node() {
  step('Node tests against real servers');
  const result = nodeTests(env);
  passed += result.passed;
  failures.push(...result.failed);
  unsteady.push(...result.second);
}

setup({ checks: true });
check('format (Rust)', 'cargo', ['fmt', '--all', '--check']);
check('lint and format (TypeScript, JavaScript)', 'npx', ['biome', 'check', '--error-on-warnings', '.']);
check('types of the library', 'npx', ['tsc', '-p', 'lib', '--noEmit']);
check('type tests', 'npx', ['tsc', '-p', '__test__/types']);
check('types of the tests', 'npx', ['tsc', '-p', '__test__', '--noEmit']);
check('lint (Rust core)', 'cargo', [
  'clippy',
  '--locked',
  '-p',
  'bcos-cache-core',
  '--all-targets',
  '--',
  '-D',
  'warnings',
]);
check('lint (Rust surface)', 'cargo', ['clippy', '--locked', '-p', 'bcos-cache', '--', '-D', 'warnings']);
await rust();
node();
// What people are told to run works; the quick run leaves it to the full one.
if (!quick) {
  demo();
  bench();
}

for (const name of unsteady) process.stdout.write(`passed only when run again, alone: ${name}\n`);
for (const name of failures) process.stdout.write(`failed: ${name}\n`);
process.stdout.write(`\ntests: ${passed} passed, ${failures.length} failed\n`);
process.exit(failures.length === 0 ? 0 : 1);
