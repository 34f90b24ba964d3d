/**
 * Decides every row of the demo's application tables and the shape of its measure rows, from a seed.
 * It does not talk to a database; `data.mjs` does.
 * Invariant: the same options give the same plan, byte for byte, on every machine.
 */
import {
  FAR_FUTURE,
  PAST,
  planOrganizations,
  planPeople,
  planRoles,
  randomFrom,
  UPDATED,
} from './people.mjs';
import { FIRST_NAMES, LAST_NAMES } from './words.mjs';

/** Goes up when the same options give other rows, so that data of an older plan is not taken for this one's. */
export const PLAN_VERSION = 2;
/** Measure rows end here. Fixed, because "today" would make two runs differ. */
export const LAST_MONTH = '2025-09-01';
export const PERIODS_MIN = 24;
export const FREQUENCIES = ['Monthly', 'Weekly', 'Quarterly', 'Daily'];
export const MEASURES = [
  ['Charges', 'currency'],
  ['Payments', 'currency'],
  ['New Patients', 'count'],
  ['Completed Visits', 'count'],
  ['Cancellation Rate', 'percent'],
  ['Work RVU', 'count'],
  ['Adjustments', 'currency'],
  ['No Shows', 'count'],
  ['Days in A/R', 'count'],
  ['Infusion Visits', 'count'],
  ['Telehealth Share', 'percent'],
  ['Referrals', 'count'],
];

/**
 * @typedef {{ seed?: number, practices?: number, usersPerPractice?: number, rows?: number }} PlanOptions
 * @typedef {Record<string, unknown>} Row
 * @typedef {object} Cast  who plays in the demo, and what must be true of them
 * @property {string} analyst  user id; active, member of one region
 * @property {string} superAdmin  user id; holds every permission
 * @property {string} deactivated  user id with is_active = false
 * @property {string} undecided  user id with is_active NULL
 * @property {string} deleted  user id with deleted_at set
 * @property {string} provider  user id; provider of one practice
 * @property {string} withoutProvider  user id; may read their own rows, but is no provider
 * @property {string} withoutOrganization  user id; an analyst who is a member of nothing
 * @property {string} revokedJti  an id that is in token_blacklist
 * @property {number[]} analystPractices  every practice the analyst may see, ascending
 * @property {string[]} analystPermissions  names, ascending
 * @property {string[]} allPermissions  names of those that count, ascending
 */

/**
 * @param {PlanOptions} [options]
 */
export function plan(options = {}) {
  const { seed = 1, rows = 20_000, usersPerPractice = 8 } = options;
  // About 4,608 rows per practice is 4 providers x 12 measures x 4 frequencies x 24 periods.
  const practices = options.practices ?? Math.min(250, Math.max(20, Math.ceil(rows / 4608)));
  const random = randomFrom(seed);
  const organizations = planOrganizations(random, practices);
  const { roles, permissions, rolePermissions, grants } = planRoles(random);
  const people = planPeople(random, organizations, roles, usersPerPractice);
  const blacklist = planBlacklist(random, people.users);
  const analystPractices = organizations.rows
    .filter((o) => o.parent_organization_id === organizations.regions[0] && o.is_active && !o.deleted_at)
    .flatMap((o) => o.practice_uids)
    .sort((a, b) => a - b);
  return {
    options: { seed, rows, practices, usersPerPractice },
    tables: {
      users: people.users,
      organizations: organizations.rows,
      roles: Object.values(roles),
      permissions,
      role_permissions: rolePermissions,
      user_roles: people.userRoles,
      user_organizations: people.memberships,
      token_blacklist: blacklist,
      ...planDataSources(),
    },
    series: planSeries(random, organizations.practices),
    /** @type {Cast} */
    cast: {
      ...people.cast,
      revokedJti: blacklist[0].jti,
      analystPractices,
      analystPermissions: grants.analyst,
      allPermissions: grants.superAdmin,
    },
  };
}
function planBlacklist(random, users) {
  const reasons = ['logout', 'password_change', 'admin_revoked', 'rotation'];
  return Array.from({ length: 200 }, (_, i) => ({
    jti: `demo-${random.hex(20)}`,
    user_id: random.pick(users).user_id,
    token_type: i % 3 === 0 ? 'access' : 'refresh',
    blacklisted_at: UPDATED,
    // Half of them are long expired; a row still means revoked.
    expires_at: i % 2 === 0 ? PAST : FAR_FUTURE,
    reason: random.pick(reasons),
    blacklisted_by: i % 4 === 0 ? users[0].user_id : null,
    ip_address: `192.0.2.${random.int(254) + 1}`,
    user_agent: i % 5 === 0 ? null : 'Mozilla/5.0 (demo)',
  }));
}

/** The practice and provider pairs that measure rows are generated for; a null provider is the practice's own line. */
function planSeries(random, practices) {
  const pairs = [];
  for (const { uid, name } of practices) {
    const providers = 2 + random.int(4);
    pairs.push({ uid, name, provider_uid: null, provider_name: null });
    for (let i = 1; i <= providers; i += 1) {
      const who = `${random.pick(FIRST_NAMES)} ${random.pick(LAST_NAMES)}, MD`;
      pairs.push({ uid, name, provider_uid: uid * 100 + i, provider_name: who });
    }
  }
  return pairs;
}

function planDataSources() {
  const sources = [
    { data_source_id: 1, data_source_name: 'Practice measures', table_name: 'agg_app_measures' },
    { data_source_id: 3, data_source_name: 'Chart data', table_name: 'agg_chart_data' },
  ].map((s) => ({ ...s, schema_name: 'ih', data_source_type: 'measure-based', is_active: true }));
  const columns = [];
  const add = (data_source_id, column_name, data_type, flags) => {
    const has = (flag) => flags.split(' ').includes(flag);
    columns.push({
      column_id: columns.length + 1,
      data_source_id,
      column_name,
      display_name: column_name.replaceAll('_', ' '),
      data_type,
      is_filterable: has('filter'),
      is_groupable: has('group'),
      is_measure: has('value'),
      is_dimension: has('group'),
      is_date_field: has('date'),
      is_measure_type: has('type'),
      is_time_period: has('period'),
      is_active: true,
    });
  };
  for (const [id, period, date, value] of [
    [1, 'frequency', 'date_index', 'measure_value'],
    [3, 'time_period', 'date_value', 'numeric_value'],
  ]) {
    add(id, 'practice_uid', 'integer', 'filter');
    add(id, 'practice', 'text', 'filter group');
    add(id, 'practice_primary', 'text', 'filter group');
    add(id, 'provider_uid', 'integer', 'filter');
    add(id, 'provider_name', 'text', 'filter group');
    add(id, 'measure', 'text', 'filter group');
    add(id, 'measure_type', 'text', 'type');
    add(id, period, 'text', 'filter period');
    add(id, date, 'date', 'filter date');
    add(id, value, 'numeric', 'value');
  }
  return { chart_data_sources: sources, chart_data_source_columns: columns };
}
