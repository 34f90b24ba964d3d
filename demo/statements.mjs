/**
 * The SQL an application sends when nothing is cached, one function per question, and the user
 * context composed from the answers. No caching, no control flow of a request: that is `dashboard.mjs`.
 * Invariant: every function sends exactly as many statements as its comment says, each under the
 * name of the step it is counted for.
 */

/**
 * @typedef {'blacklist' | 'user' | 'rbac' | 'page' | 'data'} Step
 * @typedef {Record<string, unknown>} Row
 * @typedef {Row & { user_id: string, accessible_practices: number[], accessible_organizations: (string | Row)[] }} Context
 * @typedef {(step: Step, text: string, params?: unknown[]) => Promise<Row[]>} CountedQuery
 * @typedef {{ measure: string, frequency: string, start_date: string, end_date: string }} ChartFilters
 */

/**
 * Wraps a `pg` pool so that no statement can pass uncounted.
 * @param {import('pg').Pool} pool
 */
export function countingQuery(pool) {
  /** @type {Record<Step, number>} */
  const counts = { blacklist: 0, user: 0, rbac: 0, page: 0, data: 0 };
  /** @type {CountedQuery} */
  const query = async (step, text, params = []) => {
    counts[step] += 1;
    return (await pool.query(text, params)).rows;
  };
  return { query, counts: () => ({ ...counts }) };
}

/** @param {CountedQuery} query */
export function statements(query) {
  return {
    /** One statement. Any row means revoked, whatever its expires_at says. */
    async isRevoked(jti) {
      const rows = await query(
        'blacklist',
        `SELECT jti, user_id, token_type, blacklisted_at, expires_at
         FROM token_blacklist WHERE token_blacklist.jti = $1 LIMIT $2`,
        [jti, 1],
      );
      return rows.length > 0;
    },

    /** One statement. An inactive, undecided or deleted user is nobody. */
    async user(userId) {
      const [row] = await query(
        'user',
        `SELECT user_id, email, first_name, last_name, password_hash, email_verified, is_active,
                provider_uid, created_at, updated_at, deleted_at
         FROM users WHERE users.user_id = $1 LIMIT $2`,
        [userId, 1],
      );
      if (row?.is_active !== true || row.deleted_at !== null) return null;
      const { password_hash: _, deleted_at: __, ...user } = row;
      return { ...user, created_at: isoDate(row.created_at), updated_at: isoDate(row.updated_at) };
    },

    /** Four statements. */
    async context(user) {
      const assignments = await query('rbac', ASSIGNMENTS_SQL, [user.user_id]);
      const roleIds = [...new Set(assignments.map((a) => a.role_id))];
      const permissions = await query(
        'rbac',
        `SELECT rp.role_id, p.permission_id, p.name, p.description, p.resource, p.action, p.scope,
                p.is_active, p.created_at, p.updated_at
         FROM role_permissions rp JOIN permissions p ON p.permission_id = rp.permission_id
         WHERE rp.role_id = ANY($1) AND p.is_active`,
        [roleIds],
      );
      const memberships = await query(
        'rbac',
        `SELECT uo.user_organization_id, uo.organization_id, uo.joined_at
         FROM user_organizations uo JOIN organizations o ON o.organization_id = uo.organization_id
         WHERE uo.user_id = $1 AND uo.is_active AND o.is_active AND o.deleted_at IS NULL
         ORDER BY uo.joined_at, uo.user_organization_id`,
        [user.user_id],
      );
      const tree = await query(
        'rbac',
        `SELECT organization_id, name, slug, parent_organization_id, practice_uids
         FROM organizations WHERE is_active AND deleted_at IS NULL`,
      );
      return composeContext(user, { assignments, permissions, memberships, tree });
    },

    /** One statement: the permission checker reads the assignments again before it decides. */
    async isAllowed(context, permission) {
      const live = await query('rbac', ASSIGNMENTS_SQL, [context.user_id]);
      const roles = new Set(live.map((a) => a.role_id));
      return context.roles.some(
        (role) => roles.has(role.role_id) && role.permissions.some((p) => p.name === permission),
      );
    },

    /** One statement. */
    dataSources() {
      return query(
        'page',
        `SELECT data_source_id, data_source_name, table_name, schema_name, data_source_type
         FROM chart_data_sources WHERE is_active ORDER BY data_source_id`,
      );
    },

    /** One statement. */
    dataSourceColumns(dataSourceId) {
      return query(
        'page',
        `SELECT column_id, column_name, display_name, data_type, is_filterable, is_groupable,
                is_measure, is_date_field, is_time_period
         FROM chart_data_source_columns WHERE data_source_id = $1 AND is_active ORDER BY column_id`,
        [dataSourceId],
      );
    },

    /** One statement: the entries of the page's practice filter, in an order that no locale changes. */
    practiceChoices(context) {
      return query(
        'page',
        `SELECT organization_id, name, practice_uids FROM organizations
         WHERE organization_id = ANY($1) AND cardinality(practice_uids) > 0
         ORDER BY name COLLATE "C", organization_id`,
        [organizationIds(context)],
      );
    },

    /** One statement. A caller without practices gets no rows, not everybody's. */
    chartRows(filters, practices) {
      return query(
        'data',
        `SELECT practice, practice_primary, practice_uid, provider_name, provider_uid, measure,
                measure_type, frequency, date_index::text AS date_index,
                measure_value::float8 AS measure_value
         FROM ih.agg_app_measures
         WHERE measure = $1 AND frequency = $2 AND practice_uid = ANY($3)
           AND date_index BETWEEN $4 AND $5
         ORDER BY date_index, practice_uid, provider_uid`,
        [filters.measure, filters.frequency, practices, filters.start_date, filters.end_date],
      );
    },
  };
}

const ASSIGNMENTS_SQL = `
  SELECT ur.user_role_id, ur.organization_id, r.role_id, r.name, r.description, r.is_system_role,
         r.organization_id AS role_organization_id
  FROM user_roles ur JOIN roles r ON r.role_id = ur.role_id
  LEFT JOIN organizations held_in ON held_in.organization_id = ur.organization_id
  LEFT JOIN organizations made_in ON made_in.organization_id = r.organization_id
  WHERE ur.user_id = $1 AND ur.is_active AND (ur.expires_at IS NULL OR ur.expires_at > now())
    AND r.is_active AND r.deleted_at IS NULL
    AND (ur.organization_id IS NULL OR (held_in.is_active AND held_in.deleted_at IS NULL))
    AND (r.organization_id IS NULL OR (made_in.is_active AND made_in.deleted_at IS NULL))`;
/** System roles that, held in an organization, let their holder administer it. */
const ADMIN_ROLES = ['practice_admin', 'organization_admin'];

/** Who the user is, what they may do and which practices they may see. */
function composeContext(user, { assignments, permissions, memberships, tree }) {
  const roles = new Map();
  for (const { role_id, name, description, is_system_role } of assignments) {
    roles.set(role_id, { role_id, name, description, is_system_role, permissions: [] });
  }
  const distinct = new Map();
  for (const { role_id, ...permission } of permissions) {
    const held = roles.get(role_id)?.permissions;
    if (held && !held.some((p) => p.permission_id === permission.permission_id)) held.push(permission);
    distinct.set(permission.permission_id, permission);
  }
  const reachable = descendants(
    tree,
    memberships.map((m) => m.organization_id),
  );
  return {
    ...user,
    roles: [...roles.values()],
    organizations: tree.filter((o) => memberships.some((m) => m.organization_id === o.organization_id)),
    accessible_organizations: reachable.map((o) => o.organization_id),
    accessible_practices: [...new Set(reachable.flatMap((o) => o.practice_uids ?? []))].sort((a, b) => a - b),
    all_permissions: [...distinct.values()],
    current_organization_id: memberships[0]?.organization_id ?? null,
    is_super_admin: assignments.some(
      (a) => a.is_system_role && a.name === 'super_admin' && a.role_organization_id === null,
    ),
    organization_admin_for: [
      ...new Set(
        assignments
          .filter((a) => a.organization_id && a.is_system_role && ADMIN_ROLES.includes(a.name))
          .map((a) => a.organization_id),
      ),
    ].sort(),
  };
}

/** Visits each organization once, so a cycle in the tree ends instead of hanging the request. */
function descendants(tree, start) {
  const seen = new Set();
  const queue = [...start];
  while (queue.length > 0) {
    const id = queue.pop();
    if (seen.has(id)) continue;
    seen.add(id);
    for (const o of tree) if (o.parent_organization_id === id) queue.push(o.organization_id);
  }
  return tree.filter((o) => seen.has(o.organization_id));
}

/** Ids of what the caller may reach, whether the context lists ids or whole organizations. */
export const organizationIds = (context) =>
  context.accessible_organizations.map((o) => o.organization_id ?? o);

const isoDate = (value) => (value === null || value === undefined ? null : new Date(value).toISOString());
