/**
 * Installs the outbox (`npx bcos-cache migrate`) for one part of the demo and removes it afterwards. Not a migration
 * tool: what is installed and removed is the package's own SQL.
 * Invariant: only where the demo may create things, only when no outbox is there, and never two runs at a time; what
 * was installed is removed when the part is over, when it is given up, or, after a kill, by the next run.
 */
import { withClient } from './database.mjs';

const MARK = 'bcos_demo_outbox';
const LOCK = 'bcos_demo';

/**
 * @template T
 * @param {Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>} database
 * @param {() => Promise<T>} play
 * @returns {Promise<T | { skipped: string }>}
 */
export async function withOutbox(database, play) {
  return withClient(database.url, async (query) => {
    // Held by an open transaction, so that it also works behind a pooler.
    await query('BEGIN');
    const [{ mine }] = await query('SELECT pg_try_advisory_xact_lock(hashtext($1)) AS mine', [LOCK]);
    if (!mine) return { skipped: 'another run of the demo uses the outbox of this database' };
    if (await removeLeftOver(database.url))
      return { skipped: "the database has an outbox, and not of the demo's making" };
    if (!database.mayCreate) return { skipped: 'it creates triggers in the demo database: add --install' };
    const remove = database.owe(() => uninstall(database.url));
    try {
      try {
        await withClient(database.url, (other) => other(`CREATE TABLE ${MARK} ()`));
        await migrate(database.url, false);
      } catch (error) {
        if (error.code !== '42501' && !error.message.includes('SQLSTATE 42501')) throw error;
        return { skipped: 'the user of DATABASE_URL may not create what it needs in the demo database' };
      }
      return await play();
    } finally {
      await remove();
      await query('ROLLBACK');
    }
  });
}

/** Answers whether there is an outbox of somebody else's. */
async function removeLeftOver(url) {
  const [{ marked, installed }] = await withClient(url, (query) =>
    query(
      `SELECT to_regclass($1) IS NOT NULL AS marked, to_regnamespace('bcos_cache') IS NOT NULL AS installed`,
      [MARK],
    ),
  );
  if (!marked) return installed;
  await uninstall(url);
  return false;
}

/** The mark goes last: a removal that fails is repeated by the next run. */
async function uninstall(url) {
  await migrate(url, true);
  await withClient(url, (query) => query(`DROP TABLE IF EXISTS ${MARK}`));
}

async function migrate(url, remove) {
  const { migrate: run } = await import('../dist/migrate.js');
  await run({ databaseUrl: url, analyticsDatabaseUrl: url }, remove);
}
