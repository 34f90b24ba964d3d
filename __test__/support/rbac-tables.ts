/**
 * The tables behind roles, permissions and organizations, as `4-source.md` lists them and without any key between
 * them: rows may point at nothing, as they do in an application that deletes by hand. Not the application's schema,
 * which is stricter. Invariant: text columns sort by a language's rules where the server knows any, so that only an
 * explicit COLLATE "C" sorts by bytes.
 */

/** Whoever runs SQL: a `Database` of a suite, a pool or a client. */
export interface Client {
  query(sql: string, values?: unknown[]): Promise<unknown>;
}

export interface UserRow {
  user_id: string;
  email: string;
  first_name: string;
  last_name: string;
  password_hash: string | null;
  email_verified: boolean | null;
  is_active: boolean | null;
  provider_uid: number | null;
  created_at: string | null;
  updated_at: string | null;
  deleted_at: string | null;
}

export interface OrganizationRow {
  organization_id: string;
  name: string;
  slug: string;
  parent_organization_id: string | null;
  practice_uids: readonly number[] | null;
  is_active: boolean | null;
  created_at: string | null;
  updated_at: string | null;
  deleted_at: string | null;
}

export interface RoleRow {
  role_id: string;
  name: string;
  description: string | null;
  organization_id: string | null;
  is_system_role: boolean | null;
  is_active: boolean | null;
  created_at: string | null;
  updated_at: string | null;
  deleted_at: string | null;
}

export interface PermissionRow {
  permission_id: string;
  name: string;
  description: string | null;
  resource: string;
  action: string;
  scope: string;
  is_active: boolean | null;
  created_at: string | null;
  updated_at: string | null;
}

export interface RolePermissionRow {
  role_permission_id: string;
  role_id: string;
  permission_id: string;
}

export interface UserRoleRow {
  user_role_id: string;
  user_id: string;
  role_id: string;
  organization_id: string | null;
  granted_by: string | null;
  granted_at: string | null;
  expires_at: string | null;
  is_active: boolean | null;
}

export interface UserOrganizationRow {
  user_organization_id: string;
  user_id: string;
  organization_id: string;
  is_active: boolean | null;
  joined_at: string | null;
}

/** Rows of every table; times are SQL text, which can say `infinity` and microseconds. */
export interface RbacRows {
  readonly users: UserRow[];
  readonly organizations: OrganizationRow[];
  readonly roles: RoleRow[];
  readonly permissions: PermissionRow[];
  readonly role_permissions: RolePermissionRow[];
  readonly user_roles: UserRoleRow[];
  readonly user_organizations: UserOrganizationRow[];
}

export type RbacTable = keyof RbacRows;

export const RBAC_TABLES: readonly RbacTable[] = [
  'users',
  'organizations',
  'roles',
  'permissions',
  'role_permissions',
  'user_roles',
  'user_organizations',
];

export function noRows(): RbacRows {
  return {
    users: [],
    organizations: [],
    roles: [],
    permissions: [],
    role_permissions: [],
    user_roles: [],
    user_organizations: [],
  };
}

const TIMES = 'created_at timestamptz DEFAULT now(), updated_at timestamptz DEFAULT now()';

const schemaOf = (text: string): string => `
  DROP TABLE IF EXISTS ${RBAC_TABLES.join(', ')} CASCADE;
  CREATE TABLE users (
    user_id uuid PRIMARY KEY, email varchar(255) ${text} UNIQUE NOT NULL,
    first_name varchar(100) ${text} NOT NULL, last_name varchar(100) ${text} NOT NULL, password_hash varchar(255),
    email_verified boolean DEFAULT false, is_active boolean DEFAULT true, provider_uid integer,
    ${TIMES}, deleted_at timestamptz);
  CREATE TABLE organizations (
    organization_id uuid PRIMARY KEY, name varchar(255) ${text} NOT NULL, slug varchar(100) ${text} UNIQUE NOT NULL,
    parent_organization_id uuid, practice_uids integer[] DEFAULT '{}', is_active boolean DEFAULT true,
    ${TIMES}, deleted_at timestamptz);
  CREATE INDEX organizations_parent ON organizations (parent_organization_id);
  CREATE TABLE roles (
    role_id uuid PRIMARY KEY, name varchar(100) ${text} NOT NULL, description text, organization_id uuid,
    is_system_role boolean DEFAULT false, is_active boolean DEFAULT true, ${TIMES}, deleted_at timestamptz);
  CREATE TABLE permissions (
    permission_id uuid PRIMARY KEY, name varchar(255) ${text} NOT NULL, description text,
    resource varchar(100) ${text} NOT NULL, action varchar(50) ${text} NOT NULL, scope varchar(50) ${text} NOT NULL,
    is_active boolean DEFAULT true, ${TIMES});
  CREATE TABLE role_permissions (
    role_permission_id uuid PRIMARY KEY, role_id uuid NOT NULL, permission_id uuid NOT NULL);
  CREATE INDEX role_permissions_role ON role_permissions (role_id);
  CREATE INDEX role_permissions_permission ON role_permissions (permission_id);
  CREATE TABLE user_roles (
    user_role_id uuid PRIMARY KEY, user_id uuid NOT NULL, role_id uuid NOT NULL, organization_id uuid,
    granted_by uuid, granted_at timestamptz DEFAULT now(), expires_at timestamptz, is_active boolean DEFAULT true);
  CREATE INDEX user_roles_user ON user_roles (user_id);
  CREATE INDEX user_roles_role ON user_roles (role_id);
  CREATE TABLE user_organizations (
    user_organization_id uuid PRIMARY KEY, user_id uuid NOT NULL, organization_id uuid NOT NULL,
    is_active boolean DEFAULT true, joined_at timestamptz DEFAULT now());
  CREATE INDEX user_organizations_user ON user_organizations (user_id);
  CREATE INDEX user_organizations_organization ON user_organizations (organization_id);`;

/** Puts the tables in place of what stands under their names. Neither names of permissions nor of roles are unique. */
export async function createRbacTables(client: Client): Promise<void> {
  // One statement text cannot ask first: a server without ICU does not know the name at all.
  const probe = `DO $$ BEGIN PERFORM 'a' COLLATE "und-x-icu"; END $$`;
  const linguistic = await client.query(probe).then(
    () => 'COLLATE "und-x-icu"',
    () => '',
  );
  await client.query(schemaOf(linguistic));
}

/** Writes all rows, one statement a table. */
export async function insertRows(client: Client, rows: Partial<RbacRows>): Promise<void> {
  for (const table of RBAC_TABLES) {
    const list = rows[table] ?? [];
    if (list.length === 0) continue;
    await client.query(
      `INSERT INTO ${table} SELECT * FROM json_populate_recordset(NULL::${table}, $1::json)`,
      [JSON.stringify(list)],
    );
  }
}

/** Empties the tables, fills them, and lets the planner see what is there. */
export async function replaceRows(client: Client, rows: RbacRows): Promise<void> {
  await client.query(`TRUNCATE ${RBAC_TABLES.join(', ')}`);
  await insertRows(client, rows);
  await client.query(`ANALYZE ${RBAC_TABLES.join(', ')}`);
}
