/**
 * A person made for one part of the demo, an analyst like the one of the cast, whose role is taken away and given
 * back in plain SQL. Tells nobody about it: that is what is played.
 * Invariant: nobody of the plan is touched, and the person is gone when the part is over or given up.
 */
import { randomUUID } from 'node:crypto';
import { withClient } from './database.mjs';

/**
 * @param {Awaited<ReturnType<typeof import('./database.mjs').openDatabase>>} database
 * @param {import('pg').Pool} pool
 */
export async function addColleague(database, pool) {
  const userId = randomUUID();
  const assignment = randomUUID();
  const remove = database.owe(() =>
    withClient(database.url, async (query) => {
      for (const table of ['user_roles', 'user_organizations', 'users'])
        await query(`DELETE FROM ${table} WHERE user_id = $1`, [userId]);
    }),
  );
  await pool.query(
    `INSERT INTO users (user_id, email, first_name, last_name) VALUES ($1, $2, 'Sam', 'Colleague')`,
    [userId, `colleague-${userId}@demo.invalid`],
  );
  await pool.query(
    `INSERT INTO user_roles (user_role_id, user_id, role_id)
     SELECT $1, $2, role_id FROM roles WHERE name = 'analyst' AND organization_id IS NULL`,
    [assignment, userId],
  );
  await pool.query(
    `INSERT INTO user_organizations (user_organization_id, user_id, organization_id)
     SELECT $1, $2, organization_id FROM user_organizations WHERE user_id = $3 AND is_active LIMIT 1`,
    [randomUUID(), userId, database.cast.analyst],
  );
  const setActive = (active) =>
    pool.query('UPDATE user_roles SET is_active = $2 WHERE user_role_id = $1', [assignment, active]);
  return { userId, takeRole: () => setActive(false), giveRole: () => setActive(true), remove };
}
