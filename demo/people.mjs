/**
 * The people of the demo: organizations, roles, permissions, users and how they hang together. Pure,
 * like `plan.mjs`, which calls it; the measure rows and data sources are not here.
 * Invariant: everything random comes from the generator handed in.
 */

import { FIRST_NAMES, LAST_NAMES, REGIONS, RESOURCES, TOWNS } from './words.mjs';

export const CREATED = '2024-01-15T08:00:00.000Z';
export const UPDATED = '2025-06-02T14:30:00.000Z';
export const PAST = '2025-01-31T00:00:00.000Z';
export const FAR_FUTURE = '2099-12-31T00:00:00.000Z';

const SUPER_ADMIN_PERMISSIONS = 89;

/** Small seeded generator (mulberry32): good enough for made-up people, identical everywhere. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  const int = (below) => Math.floor(next() * below);
  const hex = (digits) => Array.from({ length: digits }, () => int(16).toString(16)).join('');
  return {
    int,
    pick: (list) => list[int(list.length)],
    hex,
    uuid: () => `${hex(8)}-${hex(4)}-4${hex(3)}-${'89ab'[int(4)]}${hex(3)}-${hex(12)}`,
  };
}

export function planOrganizations(random, practices) {
  const rows = [];
  const add = (name, parent, uids, more = {}) => {
    const slug = `${name.toLowerCase().replace(/[^a-z0-9]+/g, '-')}-${rows.length}`;
    const row = {
      organization_id: random.uuid(),
      name,
      slug,
      parent_organization_id: parent,
      practice_uids: uids,
      is_active: true,
      created_at: CREATED,
      updated_at: UPDATED,
      deleted_at: null,
      ...more,
    };
    rows.push(row);
    return row.organization_id;
  };
  const root = add('Evergreen Rheumatology Network', null, []);
  const regions = REGIONS.map((region) => add(`Evergreen ${region}`, root, []));
  const named = [];
  for (let i = 0; i < practices; i += 1) {
    const uid = 101 + i;
    const name = `${TOWNS[i % TOWNS.length]} Rheumatology ${Math.floor(i / TOWNS.length) + 1}`;
    named.push({ uid, name });
    add(name, regions[i % regions.length], [uid]);
  }
  // Below the analyst's own region, and still out of reach: one closed and one deleted practice whose
  // numbers exist elsewhere. A composition that forgets either check returns too many rows.
  const far = named[1].uid;
  add('Closed Practice', regions[0], [far], { is_active: false });
  add('Deleted Practice', regions[0], [far], { deleted_at: PAST });
  return { rows, root, regions, practices: named };
}

export function planRoles(random) {
  const role = (name, more = {}) => ({
    role_id: random.uuid(),
    name,
    description: `${name.replaceAll('_', ' ')} role`,
    organization_id: null,
    is_system_role: true,
    is_active: true,
    created_at: CREATED,
    updated_at: UPDATED,
    deleted_at: null,
    ...more,
  });
  const roles = {
    superAdmin: role('super_admin'),
    practiceAdmin: role('practice_admin'),
    analyst: role('analyst'),
    provider: role('provider'),
    frontDesk: role('front_desk'),
    retired: role('regional_auditor', { is_active: false }),
  };
  const permission = (resource, action, scope, is_active = true) => ({
    permission_id: random.uuid(),
    name: `${resource}:${action}:${scope}`,
    description: `${action} ${resource} (${scope})`,
    resource,
    action,
    scope,
    is_active,
    created_at: CREATED,
    updated_at: UPDATED,
  });
  const names = [];
  for (const action of ['read', 'write', 'delete']) {
    for (const resource of RESOURCES) {
      for (const scope of ['own', 'organization', 'all']) names.push([resource, action, scope]);
    }
  }
  const permissions = names.slice(0, SUPER_ADMIN_PERMISSIONS).map((parts) => permission(...parts));
  permissions.push(permission('legacy', 'export', 'all', false));
  const holds = {
    superAdmin: () => true,
    practiceAdmin: (p) => p.scope !== 'all',
    analyst: (p) =>
      p.action === 'read' &&
      p.scope === 'organization' &&
      ['analytics', 'practices', 'providers', 'dashboards', 'charts', 'reports'].includes(p.resource),
    provider: (p) => p.action === 'read' && p.scope === 'own',
    frontDesk: (p) => p.name === 'dashboards:read:own',
    retired: (p) => p.action === 'read' && p.scope === 'all',
  };
  const rolePermissions = [];
  const grants = {};
  for (const [key, holdsIt] of Object.entries(holds)) {
    const held = permissions.filter(holdsIt);
    grants[key] = held
      .filter((p) => p.is_active)
      .map((p) => p.name)
      .sort();
    for (const p of held) {
      rolePermissions.push({
        role_permission_id: random.uuid(),
        role_id: roles[key].role_id,
        permission_id: p.permission_id,
      });
    }
  }
  const twice = rolePermissions.find((r) => r.role_id === roles.analyst.role_id);
  rolePermissions.push({ ...twice, role_permission_id: random.uuid() });
  return { roles, permissions, rolePermissions, grants };
}

export function planPeople(random, organizations, roles, usersPerPractice) {
  const users = [];
  const userRoles = [];
  const memberships = [];
  const addUser = (more = {}) => {
    const first_name = random.pick(FIRST_NAMES);
    const last_name = random.pick(LAST_NAMES);
    const user = {
      user_id: random.uuid(),
      email: `user${users.length + 1}@demo.invalid`,
      first_name,
      last_name,
      password_hash: `$2b$12$${random.hex(53)}`,
      email_verified: true,
      is_active: true,
      provider_uid: null,
      created_at: CREATED,
      updated_at: UPDATED,
      deleted_at: null,
      ...more,
    };
    users.push(user);
    return user.user_id;
  };
  const grant = (user_id, role, organization_id, more = {}) =>
    userRoles.push({
      user_role_id: random.uuid(),
      user_id,
      role_id: role.role_id,
      organization_id,
      granted_by: users[0].user_id,
      granted_at: CREATED,
      expires_at: null,
      is_active: true,
      ...more,
    });
  const join = (user_id, organization_id, is_active = true) =>
    memberships.push({
      user_organization_id: random.uuid(),
      user_id,
      organization_id,
      is_active,
      joined_at: CREATED,
    });

  const region = organizations.regions[0];
  const superAdmin = addUser();
  grant(superAdmin, roles.superAdmin, null);
  join(superAdmin, organizations.root);
  const member = (more) => {
    const id = addUser(more);
    grant(id, roles.analyst, region);
    join(id, region);
    return id;
  };
  const analyst = member();
  // What the analyst once had: none of it may count.
  grant(analyst, roles.practiceAdmin, region, { expires_at: PAST });
  grant(analyst, roles.superAdmin, null, { is_active: false });
  grant(analyst, roles.retired, region);
  join(analyst, organizations.regions[1], false);
  const deactivated = member({ is_active: false });
  const undecided = member({ is_active: null });
  const deleted = member({ deleted_at: PAST });

  const homes = organizations.rows.filter((o) => o.practice_uids.length > 0);
  for (const home of homes) {
    for (let i = 0; i < usersPerPractice; i += 1) {
      const providerUid = i % 4 === 1 ? home.practice_uids[0] * 100 + i : null;
      const odd = random.int(40);
      const more =
        odd === 0
          ? { is_active: false }
          : odd === 1
            ? { is_active: null }
            : odd === 2
              ? { deleted_at: PAST }
              : {};
      const id = addUser({ provider_uid: providerUid, ...more });
      const role =
        i === 0
          ? roles.practiceAdmin
          : providerUid !== null
            ? roles.provider
            : i % 4 === 2
              ? roles.analyst
              : roles.frontDesk;
      grant(
        id,
        role,
        home.organization_id,
        random.int(10) === 0 ? { expires_at: random.pick([PAST, FAR_FUTURE]) } : {},
      );
      join(id, home.organization_id);
    }
  }

  // Rights that reach nothing: held in a closed organization, on one's own rows without being a provider, over
  // the organizations of somebody who is in none.
  const closed = organizations.rows.find((o) => !o.is_active);
  grant(analyst, roles.practiceAdmin, closed.organization_id);
  const [home] = homes;
  const practice = home.practice_uids[0];
  const provider = addUser({ provider_uid: practice * 100 + 1 });
  const withoutProvider = addUser();
  for (const id of [provider, withoutProvider]) {
    grant(id, roles.provider, home.organization_id);
    join(id, home.organization_id);
  }
  const withoutOrganization = addUser();
  grant(withoutOrganization, roles.analyst, null);
  const cast = { analyst, superAdmin, deactivated, undecided, deleted };
  return { users, userRoles, memberships, cast: { ...cast, provider, withoutProvider, withoutOrganization } };
}
