/**
 * Roles, organizations and members for the measurements of contexts: who is measured, and the tables behind them. What
 * is a user or a token is in `data.mjs`.
 * Invariant: contexts are checked against what was put into the tables, not only against each other.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { startPostgres } from '../__test__/servers/index.mjs';
import { hmacJwts, keep, OUR_PREFIX, PEER_PREFIX, person, range, users, withEngines } from './data.mjs';

/** @typedef {import('../index.js').UserContext} UserContext */
/** @typedef {import('../__test__/servers/index.mjs').Server} Server */
/** @typedef {import('../__test__/servers/index.mjs').PostgresServer} Postgres */

/**
 * People of one kind: who they are and what is true of each of them.
 * @typedef {object} People
 * @property {string} what
 * @property {ReturnType<typeof person>[]} users
 * @property {string} role
 * @property {Record<string, unknown>[]} organizations all there are in their source
 * @property {string} prefix of our keys: organizations belong to a source, and the store holds those of two
 * @property {(n: number) => string[]} memberships
 * @property {{ permissions: number, organizations: number, accessible: number }} truth
 */

/** The kind in the leading digits, so that ids of different tables never meet. */
const id = (/** @type {number} */ kind, /** @type {number} */ n) =>
  `${kind.toString(16).padStart(8, '0')}-4f89-41d3-9a0c-${n.toString(16).padStart(12, '0')}`;
const TIMES = { created_at: '2025-01-15T08:30:00.000Z', updated_at: '2026-06-30T16:45:12.345Z' };
const ADMINISTRATORS = 10;
const SINGLE = 150;
const GROUP = 1_000;

const resources = [
  'analytics',
  'users',
  'roles',
  'organizations',
  'practices',
  'dashboards',
  'charts',
  'settings',
  'audit',
  'reports',
];
const permissions = resources
  .flatMap((resource) =>
    ['read', 'create', 'update'].flatMap((action) =>
      ['own', 'organization', 'all'].map((scope) => ({
        resource,
        action,
        scope,
        name: `${resource}:${action}:${scope}`,
      })),
    ),
  )
  .slice(0, 89)
  .map((one, n) => ({
    permission_id: id(1, n),
    ...one,
    description: `May ${one.action} ${one.resource}, scope ${one.scope}`,
    ...TIMES,
  }));

const role = (/** @type {number} */ n, /** @type {string} */ name) => ({
  role_id: id(2, n),
  name,
  description: `What a ${name} may do`,
  is_system_role: true,
  ...TIMES,
});
export const ANALYST = role(0, 'analyst');
const SUPER_ADMIN = role(1, 'super_admin');
const ANALYST_PERMISSIONS = permissions.slice(0, 12);

/** @param {number} n @param {string | null} [parent] */
const organization = (n, parent = null) => ({
  organization_id: id(3, n),
  name: `Practice of town ${String(n).padStart(5, '0')}`,
  slug: `practice-${n}`,
  parent_organization_id: parent,
  practice_uids: [1_000 + n],
  ...TIMES,
});
/** Without parent: what ordinary people belong to. */
const single = range(SINGLE).map((n) => organization(n));
/** A group of 1,000: its head, nine regions, practices below them. */
const group = range(GROUP).map((n) => organization(n, n === 0 ? null : id(3, n < 10 ? 0 : 1 + (n % 9))));

const three = (/** @type {number} */ n) => range(3).map((k) => id(3, (n * 3 + k) % SINGLE));

/** @type {Record<'user' | 'administrator' | 'head', People>} */
export const kinds = {
  user: {
    what: '1 role, 12 permissions, 3 organizations',
    users,
    organizations: single,
    prefix: OUR_PREFIX,
    role: ANALYST.role_id,
    memberships: (n) => three(n),
    truth: { permissions: 12, organizations: 3, accessible: 3 },
  },
  administrator: {
    what: 'super administrator, 89 permissions',
    users: range(ADMINISTRATORS).map((n) => person(100_000 + n)),
    organizations: single,
    prefix: OUR_PREFIX,
    role: SUPER_ADMIN.role_id,
    memberships: (n) => [id(3, n)],
    truth: { permissions: 89, organizations: 1, accessible: 1 },
  },
  head: {
    what: `12 permissions, head of a group of ${GROUP.toLocaleString('en-US')} organizations`,
    users: range(ADMINISTRATORS).map((n) => person(200_000 + n)),
    organizations: group,
    prefix: 'group:',
    role: ANALYST.role_id,
    memberships: () => [id(3, 0)],
    truth: { permissions: 12, organizations: 1, accessible: GROUP },
  },
};

/** As many analysts as wanted. @param {number} count @returns {People} */
export const analysts = (count) => ({ ...kinds.user, users: range(count).map(person) });

/** @param {Postgres} postgres @param {string} table @param {Record<string, unknown>[]} rows */
async function insert(postgres, table, rows) {
  const columns = Object.keys(rows[0] ?? {}).join(', ');
  await postgres.query(
    `INSERT INTO ${table} (${columns}) SELECT ${columns} FROM json_populate_recordset(NULL::${table}, $1)`,
    [JSON.stringify(rows)],
  );
}

/**
 * Runs `body` with a source that holds `people` and ends it.
 * @template T
 * @param {People} people @param {(postgres: Postgres) => Promise<T>} body
 */
export async function withSource(people, body) {
  const postgres = await startPostgres();
  try {
    await postgres.query(readFileSync(new URL('../demo/schema.sql', import.meta.url), 'utf8'));
    await insert(postgres, 'users', people.users);
    await insert(postgres, 'organizations', people.organizations);
    await insert(postgres, 'permissions', permissions);
    await insert(postgres, 'roles', [ANALYST, SUPER_ADMIN]);
    const granted = [
      ...ANALYST_PERMISSIONS.map((one) => [ANALYST, one]),
      ...permissions.map((one) => [SUPER_ADMIN, one]),
    ].map(([{ role_id }, { permission_id }], n) => ({
      role_permission_id: id(4, n),
      role_id,
      permission_id,
    }));
    await insert(postgres, 'role_permissions', granted);
    const assigned = people.users.map(({ user_id }, n) => ({
      user_role_id: id(5, n),
      user_id,
      role_id: people.role,
    }));
    await insert(postgres, 'user_roles', assigned);
    const joined = people.users
      .flatMap(({ user_id }, n) =>
        people.memberships(n).map((organization_id) => ({ user_id, organization_id })),
      )
      .map((one, n) => ({ user_organization_id: id(6, n), ...one }));
    await insert(postgres, 'user_organizations', joined);
    await postgres.query('ANALYZE');
    return await body(postgres);
  } finally {
    await postgres.stop();
  }
}

/** Whether a context says what the tables say. @param {UserContext} context @param {People} people @param {number} n */
export function saysTheTruth(context, { users: known, role: held, memberships, truth }, n) {
  return (
    context.user_id === known[n]?.user_id &&
    context.roles.length === 1 &&
    context.roles[0]?.role_id === held &&
    context.all_permissions.length === truth.permissions &&
    context.organizations.length === truth.organizations &&
    memberships(n).every((one) =>
      context.organizations.some(({ organization_id }) => organization_id === one),
    ) &&
    context.accessible_organizations.length === truth.accessible &&
    context.accessible_practices.length === truth.accessible &&
    context.is_super_admin === (held === SUPER_ADMIN.role_id)
  );
}

/**
 * The text under which a peer keeps a verified payload: with a hash of the token, without which another token of the
 * same id would pass. @param {string} token @param {object} payload
 */
const payloadText = (token, payload) =>
  JSON.stringify({ token: createHash('sha256').update(token).digest('base64'), payload });

/** @typedef {{ contexts: Record<keyof typeof kinds, UserContext[]>, tokens: string[] }} Filled */
/** @type {WeakMap<Server, Promise<Filled>>} */
const filled = new WeakMap();

/** Fills the store with contexts and payloads, once: see `fill` in `data.mjs`. @param {Server} server */
export function fillContexts(server) {
  const known = filled.get(server) ?? load(server);
  filled.set(server, known);
  return known;
}

/** @param {Server} server @param {People} people */
const loadKind = (server, people) =>
  withSource(people, (postgres) =>
    withEngines(server, [{ databaseUrl: postgres.url, redisKeyPrefix: people.prefix }], async (ours) => {
      const all = await Promise.all(people.users.map((user) => ours.getCachedUserContext(user.user_id)));
      const wrong = all.findIndex((context, n) => !saysTheTruth(context, people, n));
      if (wrong >= 0) throw new Error(`context ${wrong} of "${people.what}" was not loaded as it is`);
      return all;
    }),
  );

/** @param {Server} server @returns {Promise<Filled>} */
async function load(server) {
  const { hs256: tokens, payloads } = hmacJwts();
  const contexts = {
    user: await loadKind(server, kinds.user),
    administrator: await loadKind(server, kinds.administrator),
    head: await loadKind(server, kinds.head),
  };
  await withEngines(server, [{}], (ours) =>
    Promise.all(tokens.map((token, n) => ours.verifyTokenCached(token, () => payloads[n] ?? {}))),
  );
  for (const context of Object.values(contexts).flat()) {
    await server.command('SET', `${PEER_PREFIX}user_context:${context.user_id}`, JSON.stringify(context));
  }
  for (const [n, payload] of payloads.entries()) {
    const text = payloadText(String(tokens[n]), payload);
    await server.command('SET', `${PEER_PREFIX}jwt_payload:${payload.jti}`, text);
  }
  await keep(server);
  return { contexts, tokens };
}
