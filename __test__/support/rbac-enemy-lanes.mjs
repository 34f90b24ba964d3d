/**
 * What the processes of the new-enemy test write and read: one person a lane, allowed in even versions and not in odd
 * ones, each lane by another way to grant and to revoke. Not the judge: it says which version an answer holds and
 * whether it allows. Invariant: a version and what it means are written in one transaction, into one part of a context.
 */
import bcos from '../../index.js';
import { anyMoment } from './resurrection-subjects.mjs';

/**
 * @typedef {'assignment' | 'activation' | 'grant' | 'place' | 'holders' | 'members' | 'catalogue'} Kind
 * @typedef {{ kind: Kind, user: string, role: string, permission: string, top: string, child: string }} Lane
 * @typedef {import('../../index.js').Engine} Engine
 * @typedef {import('../../index.js').UserContext} Context
 * @typedef {{ version: number | undefined, allowed: boolean, torn?: string }} Answer
 * @typedef {[text: string, ...values: (keyof Lane)[]]} Sql
 * @typedef {(cache: Engine, lane: Lane) => Promise<{ acknowledged: boolean }>} Tell
 * @typedef {{ version: [text: string, id: keyof Lane], allow: Sql, deny: Sql, tell: Tell }} Change
 */

export const ASKED = 'records:read:own';

const named = `UPDATE users SET last_name = $1 WHERE user_id = $2`;
const described = `UPDATE roles SET description = $1 WHERE role_id = $2`;
const assigned = `INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (gen_random_uuid(), $1, $2)`;

/** By kind: where its version is written, what allows, what denies, and who is told. @type {Record<Kind, Change>} */
const KINDS = {
  assignment: {
    version: [named, 'user'],
    allow: [assigned, 'user', 'role'],
    deny: ['DELETE FROM user_roles WHERE user_id = $1', 'user'],
    tell: (cache, { user }) => cache.invalidateUserContext(user, 'role_changed'),
  },
  activation: {
    version: [named, 'user'],
    allow: ['UPDATE users SET is_active = true WHERE user_id = $1', 'user'],
    deny: ['UPDATE users SET is_active = NULL WHERE user_id = $1', 'user'],
    tell: (cache, { user }) => cache.invalidateUserContext(user, 'activation'),
  },
  grant: {
    version: [described, 'role'],
    allow: [
      `INSERT INTO role_permissions (role_permission_id, role_id, permission_id) VALUES (gen_random_uuid(), $1, $2)`,
      'role',
      'permission',
    ],
    deny: ['DELETE FROM role_permissions WHERE role_id = $1', 'role'],
    tell: (cache, { role }) => cache.invalidateRolePermissions(role, 'permissions_changed'),
  },
  place: {
    version: ['UPDATE organizations SET name = $1 WHERE organization_id = $2', 'top'],
    allow: [
      'UPDATE organizations SET parent_organization_id = $2 WHERE organization_id = $1',
      'child',
      'top',
    ],
    deny: ['UPDATE organizations SET parent_organization_id = NULL WHERE organization_id = $1', 'child'],
    tell: (cache) => cache.invalidateOrganizationHierarchy('moved'),
  },
  holders: {
    version: [named, 'user'],
    allow: [assigned, 'user', 'role'],
    deny: ['DELETE FROM user_roles WHERE role_id = $1', 'role'],
    tell: (cache, { role }) => cache.invalidateUsersWithRole(role, 'bulk'),
  },
  members: {
    version: [named, 'user'],
    allow: ['UPDATE user_organizations SET is_active = true WHERE organization_id = $1', 'top'],
    deny: ['UPDATE user_organizations SET is_active = NULL WHERE organization_id = $1', 'top'],
    tell: (cache, { top }) => cache.invalidateOrganizationMembers(top, 'bulk'),
  },
  catalogue: {
    version: [described, 'role'],
    allow: ['UPDATE permissions SET is_active = true WHERE permission_id = $1', 'permission'],
    deny: ['UPDATE permissions SET is_active = NULL WHERE permission_id = $1', 'permission'],
    tell: (cache) => cache.invalidateAllRolePermissions('catalogue'),
  },
};

/** Changes that concern the entries of one person or role, and those that void an entry of everybody. */
export const groups = /** @type {const} */ ({
  own: ['assignment', 'activation', 'grant'],
  shared: ['place', 'holders', 'members', 'catalogue'],
});

/** The entries that a context of this lane is made of. @param {Lane} lane */
export const entriesOf = ({ user, role }) => [
  `user_context:${user}`,
  `role_perms:${role}`,
  'org_tree:all',
  'rbac_epoch:all',
];

/**
 * Commits a version, then makes it known, unless nobody is to be told.
 * @param {Engine} cache @param {import('pg').Pool} source @param {Lane} lane @param {number} version @param {boolean} untold
 */
export async function write(cache, source, lane, version, untold) {
  const { version: numbered, allow, deny, tell } = KINDS[lane.kind];
  const [text, ...values] = version % 2 === 0 ? allow : deny;
  const client = await source.connect();
  try {
    await client.query('BEGIN');
    await client.query(numbered[0], [String(version), lane[numbered[1]]]);
    await client.query(
      text,
      values.map((name) => lane[name]),
    );
    await anyMoment(2);
    await client.query('COMMIT');
  } finally {
    client.release();
  }
  if (untold) return { acknowledged: true };
  await anyMoment(2);
  return tell(cache, lane);
}

/** What a context says about its lane. @param {Lane} lane @param {Context} context @returns {Answer} */
export function understand(lane, context) {
  const [role] = context.roles;
  const [organization] = context.organizations;
  /** @type {{ said: string | null | undefined, allowed: boolean }} */
  let answer;
  switch (lane.kind) {
    case 'place':
      answer = {
        said: organization?.name,
        allowed: context.accessible_organizations.some((one) => one.organization_id === lane.child),
      };
      break;
    case 'members':
      answer = { said: context.last_name, allowed: organization !== undefined };
      break;
    case 'grant':
    case 'catalogue':
      answer = { said: role?.description, allowed: bcos.hasPermission(context, ASKED) };
      break;
    default:
      answer = { said: context.last_name, allowed: bcos.hasPermission(context, ASKED) };
  }
  const version = Number(answer.said ?? Number.NaN);
  if (answer.allowed === (version % 2 === 0)) return { version, allowed: answer.allowed };
  return {
    version,
    allowed: answer.allowed,
    torn: `${lane.kind}: version ${answer.said} allowed ${answer.allowed}`,
  };
}
