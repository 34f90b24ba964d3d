/**
 * The Node tests: vitest, counted from its JSON report. What fails is run once more, alone: most of it waits for real servers
 * and processes, and on a machine that others use too a bound of some milliseconds is missed now and then. That is told by
 * name, never hidden. A test whose failure is a breach is not run twice: there, once is enough.
 * Invariant: a file that could not run counts as failed.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { cwd } from './run.mjs';

/** Who sees what, what was revoked, and limits that hold: one wrong answer in a million is one too many. */
const ONCE_IS_ENOUGH =
  /(resurrection|privacy|rbac-(forged|lies|new-enemy|oracle)|limiter-processes|analytics-(generations|oracle|scope))\.spec\.ts$/;
/** So many are no accident. */
const FILES_AGAIN = 8;

/** `{ passed, failed: names, second: names }`; `second` = passed only when they were run again. */
export function nodeTests(env) {
  const first = vitest(env, []);
  if (first === undefined) return { passed: 0, failed: ['vitest wrote no report'], second: [] };
  const broken = first.files.filter((file) => file.failed.length > 0);
  const passed = first.files.reduce((sum, file) => sum + file.passed, 0);
  const failed = broken.flatMap((file) => file.failed);
  if (first.files.length === 0) failed.push('vitest found no tests');
  else if (first.status !== 0 && failed.length === 0) failed.push(`vitest: exit code ${first.status}`);
  const again = broken.filter((file) => !ONCE_IS_ENOUGH.test(file.name));
  if (again.length === 0 || again.length > FILES_AGAIN) return { passed, failed, second: [] };
  process.stdout.write(`\nonce more, alone: ${again.map((file) => file.name).join(', ')}\n`);
  const repeated = vitest(
    { ...env, CI: '1' },
    again.map((file) => file.name),
  );
  const second = [];
  for (const file of again) {
    const now = repeated?.files.find((one) => one.name === file.name);
    if (now !== undefined && now.failed.length === 0 && now.passed >= file.passed + file.failed.length)
      second.push(...file.failed);
  }
  return { passed: passed + second.length, failed: failed.filter((name) => !second.includes(name)), second };
}

function vitest(env, files) {
  const folder = mkdtempSync(join(tmpdir(), 'bcos-vitest-'));
  const report = join(folder, 'report.json');
  const given = [
    'vitest',
    'run',
    ...files,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ];
  const { status } = spawnSync('npx', given, { cwd, env, stdio: ['ignore', 'inherit', 'inherit'] });
  const read = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined;
  rmSync(folder, { recursive: true });
  return read === undefined ? undefined : { status, files: read.testResults.map(ofFile) };
}

/** What is neither passed nor failed was skipped, which nothing may be. */
function ofFile({ name, status, assertionResults }) {
  const file = relative(cwd, name);
  const failed = assertionResults
    .filter((one) => one.status !== 'passed')
    .map((one) => `${file} > ${one.fullName}`);
  if (status !== 'passed' && failed.length === 0) failed.push(`${file} (outside its tests)`);
  return {
    name: file,
    passed: assertionResults.length - failed.filter((one) => one.includes(' > ')).length,
    failed,
  };
}
