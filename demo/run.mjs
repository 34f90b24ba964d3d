/**
 * `npm run demo`: measures one dashboard without the cache, with a cold and with a warm one, and
 * prints counted statements, round trips and latencies; then what a request costs in one call, and how soon
 * a role that is taken away is gone. Expects dependencies and the build to be there.
 * Invariant: exits 0 only if every answer was right and no promised count was exceeded; stdout carries the result and nothing else.
 */
import { randomBytes } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { DemoError, openDatabase } from './database.mjs';
import { createJudge } from './judge.mjs';
import { measure } from './measure.mjs';
import { createProgress } from './progress.mjs';
import { renderReport } from './report.mjs';

const HELP = `usage: npm run demo -- [options]

  --json            print one JSON object on stdout instead of the table
  --quick           less data and fewer rounds
  --rows N          measure rows to generate, 1000 to 1000000 (default 20000; quick 6000)
  --practices N     practices to generate, 4 to 500 (default by rows)
  --seed N          seed of the generated data (default 1)
  --install         with DATABASE_URL: allow creating the demo's own database, tables, data and,
                    for the time of the run, triggers
  --help            this text

DATABASE_URL selects a Postgres server, REDIS_HOST or REDIS_URL a Valkey; without them a local
Postgres is started and the embedded store is used.
`;

const OPTIONS = {
  json: { type: 'boolean', default: false },
  quick: { type: 'boolean', default: false },
  rows: { type: 'string' },
  practices: { type: 'string' },
  seed: { type: 'string' },
  install: { type: 'boolean', default: false },
  help: { type: 'boolean', default: false },
};

class UsageError extends Error {}

function readArguments(args) {
  let values;
  try {
    ({ values } = parseArgs({ args, options: OPTIONS, strict: true, allowPositionals: false }));
  } catch (error) {
    throw new UsageError(error.message.split(/\. (?=To )/)[0]);
  }
  const whole = (name, min, max, fallback) => {
    if (values[name] === undefined) return fallback;
    const n = Number(values[name]);
    if (values[name].trim() !== '' && Number.isInteger(n) && n >= min && n <= max) return n;
    throw new UsageError(`--${name} is "${values[name]}"; expected a whole number from ${min} to ${max}`);
  };
  return {
    ...values,
    plan: {
      seed: whole('seed', 0, 2_147_483_647, 1),
      rows: whole('rows', 1000, 1_000_000, values.quick ? 6000 : 20_000),
      practices: whole('practices', 4, 500, values.quick ? 8 : undefined),
    },
  };
}

/** What a signal has to wait for. @type {() => Promise<void>} */
let leave = async () => {};
const LEAVE_LIMIT_MS = 5000;

async function main(args) {
  const options = readArguments(args);
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const { say, done } = createProgress(process.stderr);
  const database = await openDatabase(options.plan, { install: options.install, env: process.env, say });
  leave = database.stop;
  const judge = createJudge();
  let measured;
  try {
    measured = await measure({
      database,
      judge,
      quick: options.quick,
      env: process.env,
      prefix: `bcos_demo:${randomBytes(6).toString('hex')}:`,
      say,
    });
  } finally {
    await database.stop();
    done();
  }
  const result = {
    ...measured,
    ok: judge.failed.length === 0,
    origin: database.origin,
    rows: options.plan.rows,
    machine: `Node ${process.versions.node}, ${availableParallelism()} CPUs`,
    checks: { passed: judge.passed(), failed: judge.failed },
  };
  const colour = process.stdout.isTTY === true && !process.env.NO_COLOR;
  process.stdout.write(options.json ? `${JSON.stringify(result)}\n` : renderReport(result, { colour }));
  return result.ok ? 0 : 1;
}

// A signal alone would end this process without its exit handlers, which stop the local Postgres, and with traces
// of this run in somebody's database. A second one ends it at once.
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
]) {
  process.once(signal, async () => {
    const left = leave().catch((error) => process.stderr.write(`demo: ${error.message}\n`));
    await Promise.race([left, sleep(LEAVE_LIMIT_MS)]);
    process.exit(code);
  });
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof UsageError) {
    process.stderr.write(`demo: ${error.message}\n\n${HELP}`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`demo: ${error instanceof DemoError ? error.message : (error.stack ?? error)}\n`);
    process.exitCode = 1;
  }
}
