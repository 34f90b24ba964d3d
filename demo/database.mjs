/**
 * Finds the Postgres the demo runs on: one started for it, or the server behind DATABASE_URL. Not a
 * fixture for tests and not a migration tool.
 * Invariant: on a server that is not ours, nothing is written outside a database named `bcos_demo*`
 * that is empty or carries our mark, and nothing is created there without --install. What a run adds
 * to that database for itself is gone when it ends.
 */
import pg from 'pg';
import { generate, installSchema, removeSchema, removeTraces } from './data.mjs';
import { PLAN_VERSION, plan } from './plan.mjs';

const NAME = 'bcos_demo';
const MARK = 'bcos_demo_install';

/** @typedef {() => Promise<void>} Undo */

/** A situation the user can change; shown as one message, without a stack. */
export class DemoError extends Error {}

/**
 * @param {import('./plan.mjs').PlanOptions} options
 * @param {{ install: boolean, env: NodeJS.ProcessEnv, say: (text: string, of?: { done: number, total: number }) => void }} how
 * @returns {Promise<{ url: string, origin: string, cast: import('./plan.mjs').Cast, users: import('./plan.mjs').Row[],
 *   mayCreate: boolean, owe: (undo: Undo) => Undo, stop: Undo }>}
 */
export async function openDatabase(options, { install, env, say }) {
  const planned = plan(options);
  const given = env.DATABASE_URL;
  let url;
  let origin;
  const { owe, undoAll } = debts();
  let stop = undoAll;
  if (given) {
    url = demoUrl(given);
    await reachOrCreate(given, url, install);
    origin = `database ${new URL(url).pathname.slice(1)} on the server of DATABASE_URL`;
  } else {
    say('starting a local Postgres');
    const { startPostgres } = await import('../__test__/servers/index.mjs');
    const server = await startPostgres();
    stop = () => server.stop();
    url = await server.createDatabase(NAME);
    origin = 'a Postgres started for this run';
  }
  try {
    await prepare(url, planned.options, install || !given, say);
  } catch (error) {
    await stop();
    throw error;
  }
  const { cast, tables } = planned;
  return { url, origin, cast, users: tables.users, mayCreate: install || !given, owe, stop };
}

/** What has to be undone before leaving, once each and the latest first, whether the part that owes it ended or not. */
function debts() {
  /** @type {Undo[]} */
  const open = [];
  const undoOne = async (undo) => {
    if (!open.includes(undo)) return;
    open.splice(open.indexOf(undo), 1);
    await undo();
  };
  return {
    /** @param {Undo} undo @returns {Undo} does it now */
    owe(undo) {
      open.push(undo);
      return () => undoOne(undo);
    },
    async undoAll() {
      const failed = [];
      for (const undo of open.toReversed()) await undoOne(undo).catch((error) => failed.push(error));
      if (failed.length > 0)
        throw new DemoError(`Something was left in the demo database: ${failed[0].message}`);
    },
  };
}

/** The URL of our own database on the same server. */
function demoUrl(given) {
  let url;
  try {
    url = new URL(given);
  } catch {
    throw new DemoError('DATABASE_URL is not a URL; expected postgres://user:password@host:5432/database');
  }
  if (!['postgres:', 'postgresql:'].includes(url.protocol)) {
    throw new DemoError(`DATABASE_URL starts with ${url.protocol}//; expected postgres://`);
  }
  if (!url.pathname.startsWith(`/${NAME}`)) url.pathname = `/${NAME}`;
  return url.href;
}

async function reachOrCreate(given, url, install) {
  const name = decodeURIComponent(new URL(url).pathname.slice(1));
  try {
    return await withClient(url, async () => {});
  } catch (error) {
    if (error.code !== '3D000') throw unreachable(error);
  }
  if (!install) {
    throw new DemoError(
      `The server of DATABASE_URL has no database "${name}". The demo writes only to a database of its own:\n` +
        'add --install to let it create that one, or unset DATABASE_URL to use a local Postgres.',
    );
  }
  try {
    await withClient(given, (query) => query(`CREATE DATABASE "${name.replaceAll('"', '""')}"`));
  } catch (error) {
    if (error.code !== '42501') throw unreachable(error);
    throw new DemoError(
      `The user of DATABASE_URL may not create databases. Have an empty database "${NAME}" created for it,\n` +
        'then run again with --install.',
    );
  }
}

function unreachable(error) {
  const why = error.errors?.[0]?.message ?? error.message;
  return new DemoError(`The server of DATABASE_URL does not let us in: ${why}`);
}

async function prepare(url, options, mayWrite, say) {
  const wanted = JSON.stringify({ ...options, version: PLAN_VERSION });
  await withClient(url, async (query) => {
    const marked = (await query('SELECT to_regclass($1) IS NOT NULL AS yes', [MARK]))[0].yes;
    if (marked) {
      const [mark] = await query(`SELECT options FROM ${MARK}`);
      if (mark?.options === wanted) {
        await removeTraces(query);
        return say('the demo data is already there');
      }
      if (!mayWrite) {
        throw new DemoError(
          'The demo database holds data of another size, seed or version; add --install to replace it.',
        );
      }
      say('removing the demo data of another size, seed or version');
      await removeSchema(query);
      await query(`DROP TABLE ${MARK}`);
    } else {
      const [{ tables }] = await query(
        `SELECT count(*)::int AS tables FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'`,
      );
      if (tables > 0) {
        throw new DemoError(
          `The demo database holds ${tables} tables that are not the demo's; it is left alone.`,
        );
      }
      if (!mayWrite)
        throw new DemoError('The demo database is empty; add --install to create tables and data in it.');
    }
    // The mark comes first and the options last, so that an interrupted installation is recognised as ours.
    await query(`CREATE TABLE ${MARK} (options text NOT NULL)`);
    say('creating tables');
    await installSchema(query);
    await generate(query, {
      ...options,
      onProgress: ({ table, done, total }) => say(`writing ${table}`, { done, total }),
    });
    await query(`INSERT INTO ${MARK} VALUES ($1)`, [wanted]);
  });
}

/**
 * @template T
 * @param {string} connectionString
 * @param {(query: import('./data.mjs').Query) => Promise<T>} use
 */
export async function withClient(connectionString, use) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return await use(async (text, params) => (await client.query(text, params)).rows);
  } finally {
    await client.end();
  }
}
