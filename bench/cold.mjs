/**
 * A context that is cached nowhere, while roles and organizations are: the first request of a user. Compared with the five
 * statements of the plan, one after the other, and with the three that are left when somebody keeps the roles and the
 * organizations in memory by hand. The peers neither take a lease nor write a cache; ours does both within its time.
 */

import pg from 'pg';
import { countingQuery, statements } from '../demo/statements.mjs';
import { withEngines } from './data.mjs';
import { compare } from './measure.mjs';
import { analysts, saysTheTruth, withSource } from './rbac-data.mjs';

/** @typedef {import('./measure.mjs').Variant} Variant */

const USERS = 200;
/** The default of `DATABASE_POOL_MAX`, for everybody. */
const CONNECTIONS = 8;
const BASE = '`pg`, the 5 statements of the plan';

const USER = {
  name: 'user',
  text: `SELECT user_id, email, first_name, last_name, email_verified, is_active, provider_uid, created_at, updated_at
         FROM users WHERE user_id = $1 AND is_active AND deleted_at IS NULL`,
};
const ASSIGNED = {
  name: 'assigned',
  text: `SELECT user_role_id, user_id, role_id, organization_id, granted_by, granted_at, expires_at, is_active
         FROM user_roles WHERE user_id = $1 AND is_active AND (expires_at IS NULL OR expires_at > now())`,
};
const JOINED = {
  name: 'joined',
  text: `SELECT user_organization_id, user_id, organization_id, is_active, joined_at
         FROM user_organizations WHERE user_id = $1 AND is_active`,
};

/**
 * The best that is done by hand: roles and organizations are known, prepared statements, no more than is needed.
 * @param {import('pg').Pool} pool
 */
async function byHand(pool) {
  const { rows: permissions } = await pool.query(
    'SELECT rp.role_id, p.* FROM role_permissions rp JOIN permissions p USING (permission_id) WHERE p.is_active',
  );
  const { rows: known } = await pool.query('SELECT * FROM roles WHERE is_active AND deleted_at IS NULL');
  const { rows: tree } = await pool.query(
    'SELECT * FROM organizations WHERE is_active AND deleted_at IS NULL',
  );
  const roles = new Map(
    known.map((role) => [
      role.role_id,
      { ...role, permissions: permissions.filter((one) => one.role_id === role.role_id) },
    ]),
  );
  const organizations = new Map(tree.map((one) => [one.organization_id, one]));
  let sent = 0;
  const ask = (/** @type {typeof USER} */ statement, /** @type {string} */ id) => {
    sent += 1;
    return pool.query({ ...statement, values: [id] });
  };
  const context = async (/** @type {string} */ id) => {
    const [user] = (await ask(USER, id)).rows;
    const { rows: user_roles } = await ask(ASSIGNED, id);
    const { rows: user_organizations } = await ask(JOINED, id);
    const held = user_roles.map(({ role_id }) => roles.get(role_id));
    // Nothing lies below them in this source, so they are all that is within reach.
    const reach = user_organizations.map(({ organization_id }) => organizations.get(organization_id));
    return {
      ...user,
      roles: held,
      organizations: reach,
      accessible_organizations: reach,
      accessible_practices: [...new Set(reach.flatMap((one) => one.practice_uids))].sort((a, b) => a - b),
      user_roles,
      user_organizations,
      all_permissions: held.flatMap((one) => one.permissions),
      is_super_admin: false,
    };
  };
  return { context, sent: () => sent };
}

/** As the demo's page without a cache does it, user and context. @param {import('pg').Pool} pool */
export function asPlanned(pool) {
  const { query, counts } = countingQuery(pool);
  const { user, context } = statements(query);
  return {
    context: async (/** @type {string} */ id) => context(await user(id)),
    sent: () => counts().user + counts().rbac,
  };
}

/** @type {import('./report.mjs').Measurement['run']} */
export function coldContext({ server, rounds, progress }) {
  const people = analysts(USERS);
  const ids = people.users.map((user) => user.user_id);
  /** @type {Variant['right']} */
  const right = (answer, index) =>
    saysTheTruth(/** @type {import('../index.js').UserContext} */ (answer), people, index);
  return withSource(people, async (postgres) => {
    const pool = new pg.Pool({ connectionString: postgres.url, max: CONNECTIONS });
    const planned = asPlanned(pool);
    const hand = await byHand(pool);
    const options = { databaseUrl: postgres.url, databasePoolMax: CONNECTIONS, redisKeyPrefix: 'cold:' };
    const tables = await withEngines(server, [options], async (ours) => {
      /** @param {string} name @param {{ context: (id: string) => Promise<unknown>, sent: () => number }} peer @returns {Variant} */
      const peer = (name, { context, sent }) => ({
        name,
        right,
        call: (index) => context(String(ids[index])),
        meters: () => ({ 'SQL statements': sent() }),
      });
      /** @type {Variant} */
      const own = {
        name: 'bcos-cache `getCachedUserContext`',
        right,
        call: (index) => ours.getCachedUserContext(String(ids[index])),
        prepare: () => Promise.all(ids.map((id) => ours.invalidateUserContext(id))),
        meters: () => {
          const { source, store } = ours.getMetrics();
          return {
            'SQL statements': source.statements,
            'store round trips': store.roundTrips,
            'store commands': store.commands,
          };
        },
      };
      // Roles and organizations get warm.
      await ours.getCachedUserContext(String(ids[0]));
      const variants = [
        own,
        peer(BASE, planned),
        peer('`pg`, 3 statements, roles and organizations in memory', hand),
      ];
      const found = [];
      for (const concurrency of [1, 100]) {
        progress(`cold context: ${concurrency} concurrent`);
        const rows = await compare(variants, { concurrency, keys: USERS, rounds, roundMs: 0 }, 'once each');
        const title = `Cold context, roles and organizations warm: ${USERS} users, ${concurrency} concurrent`;
        found.push({
          title,
          base: BASE,
          rows,
          concurrency,
          note: '150 organizations; 8 connections for everybody.',
        });
      }
      return found;
    });
    await pool.end();
    return tables;
  });
}
