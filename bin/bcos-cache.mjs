#!/usr/bin/env node
/**
 * `npx bcos-cache`: what operators do once, from a shell. Results go to stdout, everything else to stderr. Exit code
 * 0 done, 1 it failed, 2 it was asked for wrongly.
 * Invariant: nothing is changed unless `--apply` says so.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

const HELP = `usage: npx bcos-cache migrate --print | --apply [--remove] [--options FILE.json]

Installs the outbox in the application's database: triggers that note every change of users, roles,
permissions, organizations and revoked tokens in the writer's own transaction. With CACHE_TAIL_ENABLED=true
the cache follows it, so that writes by anybody, also a plain UPDATE, take effect within a second.

  --print           write the SQL to stdout, for your own migration tool; connects to nothing
  --apply           run it on DATABASE_URL; running it again is harmless
  --remove          the SQL that takes the outbox away again
  --options FILE    JSON as for createEngine(), for tables and columns that have other names
  --help            this text

Everything lies in the schema bcos_cache. Postgres 14 or newer; the role must own the tables and may create
schemas. The printed SQL says which rights the cache needs when it connects as another role. The configuration
is read from the environment, as by the application.
`;

const OPTIONS = {
  print: { type: 'boolean', default: false },
  apply: { type: 'boolean', default: false },
  remove: { type: 'boolean', default: false },
  options: { type: 'string' },
  help: { type: 'boolean', short: 'h', default: false },
};

class UsageError extends Error {}

/** @param {string[]} args */
function readArguments(args) {
  const { values, positionals } = parse(args);
  if (values.help) return values;
  const [command, ...more] = positionals;
  if (command === undefined) throw new UsageError('a command is missing');
  if (command !== 'migrate') throw new UsageError(`unknown command "${command}"; there is migrate`);
  if (more.length > 0) throw new UsageError(`unexpected argument "${more[0]}"`);
  if (values.print === values.apply) throw new UsageError('migrate needs --print or --apply, one of the two');
  return values;
}

/** @param {string[]} args */
function parse(args) {
  try {
    return parseArgs({ args, options: OPTIONS, strict: true, allowPositionals: true });
  } catch (error) {
    // Node adds advice about "--" that fits no option of this command.
    throw new UsageError(/** @type {Error} */ (error).message.split(/\. (?=To )/)[0]);
  }
}

/**
 * @param {string | undefined} file
 * @returns {import('../index.js').EngineOptions}
 */
function readOptions(file) {
  if (file === undefined) return {};
  let options;
  try {
    options = JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new Error(`--options ${file}: ${/** @type {Error} */ (error).message}`);
  }
  if (typeof options === 'object' && options !== null && !Array.isArray(options)) return options;
  throw new Error(`--options ${file}: a JSON object is expected`);
}

/** @param {string[]} args */
async function main(args) {
  const { help, print, remove, options: file } = readArguments(args);
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  const options = readOptions(file);
  // Loaded late: help and wrong usage need no add-on.
  const { migrate, migrationSql } = createRequire(import.meta.url)('../dist/migrate.js');
  if (print) {
    const sql = migrationSql(options, remove);
    process.stdout.write(sql.endsWith('\n') ? sql : `${sql}\n`);
    return;
  }
  await migrate(options, remove);
  process.stdout.write(
    remove
      ? 'The outbox was removed: schema bcos_cache and its triggers are gone.\n'
      : 'The outbox is installed: schema bcos_cache and its triggers. CACHE_TAIL_ENABLED=true makes the cache follow it.\n',
  );
}

// Whoever reads may stop early, as `head` does.
process.stdout.on('error', (error) => {
  if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EPIPE') throw error;
});
try {
  await main(process.argv.slice(2));
} catch (error) {
  // Not process.exit(): what was written may still be on its way into a pipe.
  const message = error instanceof Error ? error.message : String(error);
  const usage = error instanceof UsageError;
  process.stderr.write(`bcos-cache: ${message}\n${usage ? "try 'npx bcos-cache --help'\n" : ''}`);
  process.exitCode = usage ? 2 : 1;
}
