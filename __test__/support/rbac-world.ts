/**
 * Users, roles and organizations one by one, as a test needs them: what it does not say is ordinary and active. Not
 * the random worlds of the oracle. Invariant: every id is new, so tests share a database without meeting.
 */
import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { type Database, PASSWORD_HASH } from './database.js';
import {
  insertRows,
  type OrganizationRow,
  type PermissionRow,
  type RoleRow,
  type UserOrganizationRow,
  type UserRoleRow,
  type UserRow,
} from './rbac-tables.js';

const STAMPS = { created_at: '2026-01-02T03:04:05.678Z', updated_at: '2026-02-03T04:05:06.789Z' };

export function aUser(more: Partial<UserRow> = {}): UserRow {
  const id = more.user_id ?? randomUUID();
  return {
    user_id: id,
    email: `user-${id}@example.test`,
    first_name: 'Ada',
    last_name: 'Lovelace',
    password_hash: `${PASSWORD_HASH}-${id}`,
    email_verified: true,
    is_active: true,
    provider_uid: 7,
    ...STAMPS,
    deleted_at: null,
    ...more,
  };
}

export function aRole(more: Partial<RoleRow> = {}): RoleRow {
  return {
    role_id: randomUUID(),
    name: 'analyst',
    description: null,
    organization_id: null,
    is_system_role: false,
    is_active: true,
    ...STAMPS,
    deleted_at: null,
    ...more,
  };
}

/** The permission `resource:action:scope`. */
export function aPermission(text: string, more: Partial<PermissionRow> = {}): PermissionRow {
  const [resource = '', action = '', scope = ''] = text.split(':');
  const rest = { description: null, is_active: true, ...STAMPS };
  return { permission_id: randomUUID(), name: text, resource, action, scope, ...rest, ...more };
}

export function anOrganization(more: Partial<OrganizationRow> = {}): OrganizationRow {
  const id = more.organization_id ?? randomUUID();
  return {
    organization_id: id,
    name: `Organization ${id}`,
    slug: id,
    parent_organization_id: null,
    practice_uids: [],
    is_active: true,
    ...STAMPS,
    deleted_at: null,
    ...more,
  };
}

export function anAssignment(user_id: string, role_id: string, more: Partial<UserRoleRow> = {}): UserRoleRow {
  return {
    user_role_id: randomUUID(),
    user_id,
    role_id,
    organization_id: null,
    granted_by: null,
    granted_at: STAMPS.created_at,
    expires_at: null,
    is_active: true,
    ...more,
  };
}

export function aMembership(user_id: string, organization_id: string): UserOrganizationRow {
  const rest = { is_active: true, joined_at: STAMPS.created_at };
  return { user_organization_id: randomUUID(), user_id, organization_id, ...rest };
}

export interface NewUser extends Partial<UserRow> {
  /** Ids of roles, or assignments in more detail. */
  readonly roles?: readonly (string | (Partial<UserRoleRow> & { role_id: string }))[];
  /** Ids of organizations. */
  readonly organizations?: readonly string[];
}

export interface NewRole extends Partial<RoleRow> {
  /** As `resource:action:scope`. */
  readonly permissions?: readonly string[];
}

/** Writes rows; every method answers the id of what it wrote. */
export class RbacWorld {
  constructor(readonly db: Database) {}

  async user({ roles = [], organizations = [], ...more }: NewUser = {}): Promise<string> {
    const user = aUser(more);
    await insertRows(this.db, {
      users: [user],
      user_roles: roles.map((role) =>
        typeof role === 'string'
          ? anAssignment(user.user_id, role)
          : anAssignment(user.user_id, role.role_id, role),
      ),
      user_organizations: organizations.map((id) => aMembership(user.user_id, id)),
    });
    return user.user_id;
  }

  async role({ permissions = [], ...more }: NewRole = {}): Promise<string> {
    const role = aRole(more);
    await insertRows(this.db, { roles: [role] });
    for (const text of permissions) await this.grant(role.role_id, text);
    return role.role_id;
  }

  /** Gives a role a permission of its own. */
  async grant(roleId: string, text: string): Promise<string> {
    const permission = aPermission(text);
    const pair = { role_id: roleId, permission_id: permission.permission_id };
    await insertRows(this.db, {
      permissions: [permission],
      role_permissions: [{ role_permission_id: randomUUID(), ...pair }],
    });
    return permission.permission_id;
  }

  async organization(more: Partial<OrganizationRow> = {}): Promise<string> {
    const organization = anOrganization(more);
    await insertRows(this.db, { organizations: [organization] });
    return organization.organization_id;
  }

  async assign(userId: string, roleId: string, more: Partial<UserRoleRow> = {}): Promise<void> {
    await insertRows(this.db, { user_roles: [anAssignment(userId, roleId, more)] });
  }

  async join(userId: string, organizationId: string): Promise<void> {
    await insertRows(this.db, { user_organizations: [aMembership(userId, organizationId)] });
  }

  /** A connection with an open transaction; its end without `COMMIT` rolls back. */
  async transaction(): Promise<
    AsyncDisposable & { query(sql: string, values?: unknown[]): Promise<unknown> }
  > {
    const client = new pg.Client({ connectionString: this.db.url });
    await client.connect();
    await client.query('BEGIN');
    return {
      query: (sql, values) => client.query(sql, values),
      [Symbol.asyncDispose]: () => client.end(),
    };
  }
}

/** A person with two roles and a place in a small tree, for tests that change one thing about them. */
export interface Person {
  readonly user: string;
  readonly email: string;
  /** Held by the user: analytics of the practices, own settings. */
  readonly viewer: string;
  /** Held by the user for organization `top`; a system role. */
  readonly admin: string;
  /** Not held: writes all settings. */
  readonly editor: string;
  /** One permission of `viewer`. */
  readonly reading: string;
  /** The user's organization, with `child` and below that `grandchild`. */
  readonly top: string;
  readonly child: string;
  readonly grandchild: string;
  readonly elsewhere: string;
}

export async function aPerson(world: RbacWorld): Promise<Person> {
  const top = await world.organization({ practice_uids: [4] });
  const child = await world.organization({ practice_uids: [5, 0], parent_organization_id: top });
  const grandchild = await world.organization({ practice_uids: [6], parent_organization_id: child });
  const elsewhere = await world.organization({ practice_uids: [90] });
  const viewer = await world.role({ permissions: ['settings:read:own'] });
  const reading = await world.grant(viewer, 'analytics:read:organization');
  const admin = await world.role({ name: 'practice_admin', is_system_role: true });
  const editor = await world.role({ permissions: ['settings:write:all'] });
  const user = await world.user({
    roles: [viewer, { role_id: admin, organization_id: top }],
    organizations: [top],
  });
  const email = `user-${user}@example.test`;
  return { user, email, viewer, admin, editor, reading, top, child, grandchild, elsewhere };
}
