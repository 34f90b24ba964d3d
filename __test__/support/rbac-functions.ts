/**
 * The functions about roles, contexts and requests, for the table of `functions.ts`: how they are called and which answers
 * are the truth. Invariant: as there, no call changes what is true.
 */
import { randomUUID } from 'node:crypto';
import { type AuthorizeResult, BcosCacheError, type Role, scopeOf, type UserContext } from '../../index.js';
import type { Database } from './database.js';
import type { Row, World } from './functions.js';
import { insertRows } from './rbac-tables.js';
import { aMembership, anAssignment, anOrganization, aPermission, aRole } from './rbac-world.js';
import { verified } from './tokens.js';

const PRACTICE = 41;
const PERMISSION = 'analytics:read:organization';

/** The same in every world: a store that knows the organizations of one world knows those of all. */
const ORGANIZATION = '0e0a41c5-6b1f-4f0e-9a53-41c0ffee0041';

/** What `user` may do. */
export async function addRights(
  database: Database,
  userId: string,
): Promise<Pick<World, 'role' | 'organization'>> {
  const organization = anOrganization({ organization_id: ORGANIZATION, practice_uids: [PRACTICE] });
  const known = await database.query('SELECT FROM organizations WHERE organization_id = $1', [ORGANIZATION]);
  const role = aRole();
  // Names of permissions are unique in an application's schema.
  const permission = aPermission(PERMISSION, { name: `${PERMISSION} ${role.role_id}` });
  const pair = { role_id: role.role_id, permission_id: permission.permission_id };
  await insertRows(database, {
    roles: [role],
    organizations: known.length === 0 ? [organization] : [],
    permissions: [permission],
    role_permissions: [{ role_permission_id: randomUUID(), ...pair }],
    user_roles: [anAssignment(userId, role.role_id)],
    user_organizations: [aMembership(userId, ORGANIZATION)],
  });
  return { role: role.role_id, organization: ORGANIZATION };
}

/** The user's context, with exactly the rights of the world. */
function isContext(value: unknown, world: World): boolean {
  const context = value as UserContext;
  const { kind, practices, providers } = scopeOf(context);
  const [role, ...others] = context.roles;
  const rights = [kind, practices, providers, role?.role_id, others.length, context.organizations.length];
  const expected = ['rows', [PRACTICE], null, world.role, 0, 1];
  const named = context.user_id === world.user.user_id && context.first_name === world.user.first_name;
  return named && JSON.stringify(rights) === JSON.stringify(expected);
}

/** That there is no context, as a value; any other failure stays one. */
const refusal = (error: unknown): string => {
  if (error instanceof BcosCacheError && error.code === 'E_NOT_FOUND') return `${error.reason}`;
  throw error;
};

/** A verdict, or the failure that kept it from being reached. */
const verdict = (result: AuthorizeResult): unknown => {
  if (!result.ok && result.reason === 'unavailable') throw result.cause;
  return result.ok ? result.context : result.reason;
};

/** Either in effect or queued, never neither. */
function isInvalidation(value: unknown): boolean {
  const { acknowledged, queued } = value as { acknowledged: unknown; queued: unknown };
  return typeof acknowledged === 'boolean' && queued === !acknowledged;
}

export const rbacFunctions: readonly Row[] = [
  ...(['validated', 'bounded', 'fresh'] as const).map(
    (consistency): Row => ({
      name: 'getCachedUserContext',
      of: `a user, ${consistency}`,
      asks: 'source',
      call: (engine, { user }) => engine.getCachedUserContext(user.user_id, { consistency }),
      right: isContext,
    }),
  ),
  {
    name: 'getCachedUserContext',
    of: 'a deactivated user',
    asks: 'source',
    call: (engine, { deactivated }) => engine.getCachedUserContext(deactivated.user_id).catch(refusal),
    right: (value) => value === 'inactive',
  },
  {
    name: 'getCachedUserContext',
    of: 'an unknown user',
    asks: 'source',
    call: (engine) => engine.getCachedUserContext(randomUUID()).catch(refusal),
    right: (value) => value === 'unknown',
  },
  {
    name: 'withRequestSnapshot',
    of: 'two reads of a user, which give one object',
    asks: 'source',
    call: (engine, { user: { user_id: id } }) =>
      engine.withRequestSnapshot(async () => {
        const first = await engine.getCachedUserContext(id);
        return (await engine.getCachedUserContext(id)) === first ? first : 'two states of one request';
      }),
    right: (value, world) => typeof value === 'object' && isContext(value, world),
  },
  {
    name: 'getCachedRolePermissions',
    of: 'a role',
    asks: 'source',
    call: (engine, world) => engine.getCachedRolePermissions(world.role),
    right: (value, world) => {
      const { role_id, permissions } = value as Role;
      return role_id === world.role && permissions.length === 1;
    },
  },
  {
    name: 'getCachedRolePermissions',
    of: 'an unknown role',
    asks: 'source',
    call: (engine) => engine.getCachedRolePermissions(randomUUID()),
    right: (value) => value === null,
  },
  {
    name: 'authorizeRequest',
    of: 'a session with a permission that is held',
    asks: 'source',
    call: async (engine, { user }) =>
      verdict(await engine.authorizeRequest({ userId: user.user_id, permission: PERMISSION })),
    right: (value, world) => typeof value === 'object' && isContext(value, world),
  },
  {
    name: 'authorizeRequest',
    of: 'a session within its limits',
    asks: 'source',
    call: async (engine, { user }) => {
      const counted = (type: string) => ({ type, identifier: randomUUID(), limit: 9, windowSeconds: 60 });
      const request = { userId: user.user_id, limit: [counted('address'), counted('user')] };
      const result = await engine.authorizeRequest(request);
      const context = verdict(result);
      const { allowed = false, results = [] } = result.rateLimit ?? {};
      return allowed && results.length === 2 ? context : 'not counted';
    },
    right: (value, world) => typeof value === 'object' && isContext(value, world),
  },
  {
    name: 'authorizeRequest',
    of: 'a valid token',
    asks: 'source',
    call: async (engine, { token }) => verdict(await engine.authorizeRequest({ token, verify: verified })),
    right: (value, world) => typeof value === 'object' && isContext(value, world),
  },
  {
    name: 'authorizeRequest',
    of: 'a valid token with an id that is revoked',
    asks: 'source',
    call: async (engine, { token, revoked }) =>
      verdict(await engine.authorizeRequest({ token, tokenId: revoked, verify: verified })),
    right: (value) => value === 'token_revoked',
  },
  {
    name: 'authorizeRequest',
    of: 'a permission that is not held',
    asks: 'source',
    call: async (engine, { user }) =>
      verdict(await engine.authorizeRequest({ userId: user.user_id, permission: 'analytics:read:all' })),
    right: (value) => value === 'forbidden',
  },
  {
    name: 'invalidateUserContext',
    of: 'a user',
    asks: 'invalidation',
    call: (engine, { user }) => engine.invalidateUserContext(user.user_id, 'table'),
    right: isInvalidation,
  },
  {
    name: 'invalidateRolePermissions',
    of: 'a role',
    asks: 'invalidation',
    call: (engine, { role }) => engine.invalidateRolePermissions(role, 'table'),
    right: isInvalidation,
  },
  {
    name: 'invalidateOrganizationHierarchy',
    of: 'all organizations',
    asks: 'invalidation',
    call: (engine) => engine.invalidateOrganizationHierarchy('table'),
    right: isInvalidation,
  },
  {
    name: 'invalidateUsersWithRole',
    of: 'a role',
    asks: 'invalidation',
    call: (engine, { role }) => engine.invalidateUsersWithRole(role, 'table'),
    right: isInvalidation,
  },
  {
    name: 'invalidateOrganizationMembers',
    of: 'an organization',
    asks: 'invalidation',
    call: (engine, { organization }) => engine.invalidateOrganizationMembers(organization, 'table'),
    right: isInvalidation,
  },
  {
    name: 'invalidateAllRolePermissions',
    of: 'all roles',
    asks: 'invalidation',
    call: (engine) => engine.invalidateAllRolePermissions('table'),
    right: isInvalidation,
  },
];
