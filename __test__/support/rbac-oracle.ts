/**
 * What every user of a database must be told, by one plain SQL text: joins, one recursive UNION, no cleverness. Written
 * from the meaning of a context, not from the product's statements, of which it shares no line. Not fast.
 * Invariant: objects have their fields in the order users see, so that equal texts are equal answers.
 */
import pg from 'pg';
import type { Role, UserContext } from '../../index.js';
import { ASKED_PERMISSIONS, ASKED_SCOPES } from './rbac-data.js';

/** What `scopeOf` must say. */
export interface ExpectedScope {
  readonly kind: 'nothing' | 'rows' | 'all';
  readonly practices: readonly number[];
  readonly providers: readonly number[] | null;
}

export interface Expected {
  readonly user_id: string;
  /** Why there is no context; `null` = there is one. */
  readonly denied: 'inactive' | 'deleted' | null;
  readonly context: UserContext;
  /** By `resource:action`. */
  readonly scopes: Readonly<Record<string, ExpectedScope>>;
  /** By `resource:action:scope`. */
  readonly permissions: Readonly<Record<string, boolean>>;
}

/** `RBAC_SUPER_ADMIN_ROLES` and `RBAC_ORGANIZATION_ADMIN_ROLES` by default. */
const SUPER_ADMIN_ROLES = ['super_admin'];
const ORGANIZATION_ADMIN_ROLES = ['practice_admin', 'organization_admin'];

const iso = (column: string): string =>
  `CASE WHEN isfinite(${column}) THEN to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') END`;

/** An object of these columns of `alias`; dates as text. */
function object(alias: string, columns: string, more = ''): string {
  const pairs = columns.split(' ').map((name) => {
    const column = `${alias}.${name}`;
    return `'${name}', ${name.endsWith('_at') ? iso(column) : column}`;
  });
  return `json_build_object(${pairs.join(', ')}${more})`;
}

const orEmpty = (json: string): string => `coalesce(${json}, '[]'::json)`;

const PERMISSION = object(
  'p',
  'permission_id name description resource action scope is_active created_at updated_at',
);
const ORGANIZATION = object(
  'o',
  'organization_id name slug parent_organization_id practice_uids is_active created_at updated_at deleted_at',
);
const ROLE =
  'role_id name description organization_id is_system_role is_active created_at updated_at deleted_at';
const ASSIGNMENT = object(
  'a',
  'user_role_id user_id role_id organization_id granted_by granted_at expires_at is_active',
);
const MEMBERSHIP = object('m', 'user_organization_id user_id organization_id is_active joined_at');

const PARTS = `
WITH RECURSIVE
live_organizations AS (
  SELECT organization_id, name, slug, parent_organization_id, coalesce(practice_uids, '{}') AS practice_uids,
         is_active, created_at, updated_at, deleted_at
  FROM organizations WHERE is_active IS TRUE AND deleted_at IS NULL),
live_roles AS (
  SELECT * FROM roles WHERE is_active IS TRUE AND deleted_at IS NULL),
live_permissions AS (
  SELECT * FROM permissions WHERE is_active IS TRUE),
grants AS (
  SELECT DISTINCT role_id, permission_id FROM role_permissions),

-- What counts of what a user was given.
memberships AS (
  SELECT m.* FROM user_organizations m JOIN live_organizations o ON o.organization_id = m.organization_id
  WHERE m.is_active IS TRUE),
assignments AS (
  SELECT a.*, r.name AS role_name, r.is_system_role, r.organization_id AS role_organization_id
  FROM user_roles a JOIN live_roles r ON r.role_id = a.role_id
  WHERE a.is_active IS TRUE
    AND (a.expires_at IS NULL OR a.expires_at > now())
    AND (a.organization_id IS NULL OR a.organization_id IN (SELECT organization_id FROM live_organizations))
    AND (r.organization_id IS NULL OR r.organization_id IN (SELECT organization_id FROM live_organizations))),

-- One row per user and thing.
reachable AS (
  SELECT m.user_id, m.organization_id FROM memberships m
  UNION
  SELECT above.user_id, below.organization_id
  FROM reachable above JOIN live_organizations below ON below.parent_organization_id = above.organization_id),
organizations_of AS (
  SELECT user_id, organization_id, min(position) AS position
  FROM (SELECT user_id, organization_id,
               row_number() OVER (PARTITION BY user_id ORDER BY joined_at NULLS LAST, user_organization_id) AS position
        FROM memberships) AS numbered
  GROUP BY user_id, organization_id),
roles_of AS (
  SELECT DISTINCT user_id, role_id FROM assignments),
permissions_of AS (
  SELECT DISTINCT r.user_id, g.permission_id
  FROM roles_of r JOIN grants g ON g.role_id = r.role_id
  JOIN live_permissions p ON p.permission_id = g.permission_id),

-- The same as JSON, one row per user.
role_objects AS (
  SELECT r.role_id, r.name, ${object('r', ROLE, `, 'permissions', ${orEmpty('p.objects')}`)} AS object
  FROM live_roles r LEFT JOIN (
    SELECT g.role_id, json_agg(${PERMISSION} ORDER BY p.name COLLATE "C", p.permission_id) AS objects
    FROM grants g JOIN live_permissions p ON p.permission_id = g.permission_id GROUP BY g.role_id
  ) AS p ON p.role_id = r.role_id),
role_lists AS (
  SELECT of.user_id, json_agg(r.object ORDER BY r.name COLLATE "C", r.role_id) AS objects
  FROM roles_of of JOIN role_objects r ON r.role_id = of.role_id GROUP BY of.user_id),
organization_lists AS (
  SELECT of.user_id, json_agg(${ORGANIZATION} ORDER BY of.position) AS objects,
         (array_agg(o.organization_id ORDER BY of.position))[1] AS first
  FROM organizations_of of JOIN live_organizations o ON o.organization_id = of.organization_id GROUP BY of.user_id),
accessible_lists AS (
  SELECT of.user_id, json_agg(${ORGANIZATION} ORDER BY o.name COLLATE "C", o.organization_id) AS objects
  FROM reachable of JOIN live_organizations o ON o.organization_id = of.organization_id GROUP BY of.user_id),
practice_lists AS (
  SELECT of.user_id, json_agg(DISTINCT uid ORDER BY uid) AS uids
  FROM reachable of JOIN live_organizations o ON o.organization_id = of.organization_id,
       unnest(o.practice_uids) AS uid GROUP BY of.user_id),
assignment_lists AS (
  SELECT a.user_id, json_agg(${ASSIGNMENT} ORDER BY a.granted_at NULLS LAST, a.user_role_id) AS objects,
         bool_or(a.is_system_role IS TRUE AND a.role_organization_id IS NULL AND a.role_name = ANY($1)) AS is_super,
         json_agg(DISTINCT a.organization_id::text ORDER BY a.organization_id::text) FILTER (
           WHERE a.organization_id IS NOT NULL AND a.is_system_role IS TRUE AND a.role_name = ANY($2)
         ) AS administers
  FROM assignments a GROUP BY a.user_id),
membership_lists AS (
  SELECT m.user_id, json_agg(${MEMBERSHIP} ORDER BY m.joined_at NULLS LAST, m.user_organization_id) AS objects
  FROM memberships m GROUP BY m.user_id),
permission_lists AS (
  SELECT of.user_id, json_agg(${PERMISSION} ORDER BY p.name COLLATE "C", p.permission_id) AS objects
  FROM permissions_of of JOIN live_permissions p ON p.permission_id = of.permission_id GROUP BY of.user_id),

-- Which of own (1), organization (2), all (3) a user has of what was asked; 0 = none.
reach AS (
  SELECT of.user_id, asked.text,
         max(CASE p.scope WHEN 'own' THEN 1 WHEN 'organization' THEN 2 WHEN 'all' THEN 3 ELSE 0 END) AS level
  FROM unnest($3::text[]) AS asked(text)
  JOIN live_permissions p
    ON p.resource = split_part(asked.text, ':', 1) AND p.action = split_part(asked.text, ':', 2)
  JOIN permissions_of of ON of.permission_id = p.permission_id
  GROUP BY of.user_id, asked.text),
answers AS (
  SELECT u.user_id, asked.text, coalesce(a.is_super, false) AS is_super, coalesce(reach.level, 0) AS level,
         u.provider_uid, ${orEmpty('p.uids')} AS uids
  FROM users u CROSS JOIN unnest($3::text[]) AS asked(text)
  LEFT JOIN assignment_lists a ON a.user_id = u.user_id
  LEFT JOIN practice_lists p ON p.user_id = u.user_id
  LEFT JOIN reach ON reach.user_id = u.user_id AND reach.text = asked.text),
scope_lists AS (
  SELECT user_id, json_object_agg(text,
    CASE
      WHEN is_super OR level = 3 THEN json_build_object('kind', 'all', 'practices', '[]'::json, 'providers', NULL)
      WHEN level = 2 AND json_array_length(uids) > 0
        THEN json_build_object('kind', 'rows', 'practices', uids, 'providers', NULL)
      WHEN level = 1 AND json_array_length(uids) > 0 AND provider_uid IS NOT NULL
        THEN json_build_object('kind', 'rows', 'practices', uids, 'providers', json_build_array(provider_uid))
      ELSE json_build_object('kind', 'nothing', 'practices', '[]'::json, 'providers', '[]'::json)
    END) AS objects
  FROM answers GROUP BY user_id),
has_lists AS (
  SELECT a.user_id, json_object_agg(asked.text, a.is_super OR a.level >=
    CASE split_part(asked.text, ':', 3) WHEN 'own' THEN 1 WHEN 'organization' THEN 2 ELSE 3 END) AS objects
  FROM unnest($4::text[]) AS asked(text)
  JOIN answers a ON a.text = split_part(asked.text, ':', 1) || ':' || split_part(asked.text, ':', 2)
  GROUP BY a.user_id)`;

const USERS = `${PARTS}
SELECT u.user_id,
  CASE WHEN u.deleted_at IS NOT NULL THEN 'deleted' WHEN u.is_active IS NOT TRUE THEN 'inactive' END AS denied,
  json_build_object(
    'user_id', u.user_id, 'email', u.email, 'first_name', u.first_name, 'last_name', u.last_name,
    'is_active', true, 'email_verified', u.email_verified, 'provider_uid', u.provider_uid,
    'roles', ${orEmpty('held.objects')},
    'organizations', ${orEmpty('own.objects')},
    'accessible_organizations', ${orEmpty('accessible.objects')},
    'accessible_practices', ${orEmpty('practices.uids')},
    'user_roles', ${orEmpty('given.objects')},
    'user_organizations', ${orEmpty('joined.objects')},
    'current_organization_id', own.first,
    'all_permissions', ${orEmpty('allowed.objects')},
    'is_super_admin', coalesce(given.is_super, false),
    'organization_admin_for', ${orEmpty('given.administers')}
  ) AS context,
  scopes.objects AS scopes,
  has.objects AS permissions
FROM users u
LEFT JOIN role_lists held ON held.user_id = u.user_id
LEFT JOIN organization_lists own ON own.user_id = u.user_id
LEFT JOIN accessible_lists accessible ON accessible.user_id = u.user_id
LEFT JOIN practice_lists practices ON practices.user_id = u.user_id
LEFT JOIN assignment_lists given ON given.user_id = u.user_id
LEFT JOIN membership_lists joined ON joined.user_id = u.user_id
LEFT JOIN permission_lists allowed ON allowed.user_id = u.user_id
LEFT JOIN scope_lists scopes ON scopes.user_id = u.user_id
LEFT JOIN has_lists has ON has.user_id = u.user_id
WHERE $5::uuid IS NULL OR u.user_id = $5::uuid`;

const ROLES = `${PARTS}
SELECT r.role_id, o.object FROM roles r LEFT JOIN role_objects o ON o.role_id = r.role_id`;

const ARGUMENTS = [SUPER_ADMIN_ROLES, ORGANIZATION_ADMIN_ROLES, ASKED_SCOPES, ASKED_PERMISSIONS];

/** A connection of its own, so that how it is planned is nobody else's business. */
export class Oracle implements AsyncDisposable {
  private constructor(private readonly client: pg.Client) {}

  static async of({ url }: { readonly url: string }): Promise<Oracle> {
    // Estimates of a recursion are so high that every statement would be compiled first, for seconds.
    const client = new pg.Client({ connectionString: url, options: '-c jit=off' });
    // A connection that ends with the server is no news to a test.
    client.on('error', () => undefined);
    await client.connect();
    return new Oracle(client);
  }

  /** What every user of the database must be told now. */
  async all(userId: string | null = null): Promise<Expected[]> {
    const { rows } = await this.client.query<Expected>(USERS, [...ARGUMENTS, userId]);
    return rows;
  }

  /** What `getCachedRolePermissions` must answer, by role; `null` = inactive or deleted. */
  async roles(): Promise<Map<string, Role | null>> {
    const { rows } = await this.client.query<{ role_id: string; object: Role | null }>(ROLES, ARGUMENTS);
    return new Map(rows.map(({ role_id, object }) => [role_id, object]));
  }

  /** The same of one user, who must exist. */
  async one(userId: string): Promise<Expected> {
    const [found] = await this.all(userId);
    if (found === undefined) throw new Error('the source has no such user');
    return found;
  }

  /** Ends the connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.end();
  }
}
