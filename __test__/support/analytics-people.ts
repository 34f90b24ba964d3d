/**
 * People whose contexts give scopes: of everything, of some practices, of one provider, of nothing. Not the rule that makes a
 * scope of a context; `rbac-oracle.spec.ts` judges that. Invariant: whoever is added has exactly the reach that was asked for.
 */
import type { Engine, Scope, UserContext } from '../../index.js';
import type { Database } from './database.js';
import type { Random } from './rbac-data.js';

export interface Person {
  readonly practices: readonly number[];
  readonly provider: number | null;
  readonly reach: 'own' | 'organization' | 'all' | 'none';
}

/** What a person may see, twice: as the package says it, and as lists for whoever looks for himself. */
export interface Seer {
  readonly context: UserContext;
  readonly scope: Scope;
}

const REACHES = ['own', 'organization', 'all'] as const;

/** One of each kind, then at random. */
export function randomPerson(
  random: Random,
  ids: { practices: readonly number[]; providers: readonly number[] },
): Person {
  const some = (list: readonly number[]) => list.filter(() => random.chance(0.3));
  return {
    practices: random.chance(0.05) ? [] : some(ids.practices),
    provider: random.chance(0.1) ? null : random.of(ids.providers),
    reach: random.of(['own', 'organization', 'organization', 'organization', 'own', 'all', 'none'] as const),
  };
}

const uuid = (kind: number, n: number) =>
  `${kind.toString(16).padStart(8, '0')}-0000-4000-8000-${n.toString(16).padStart(12, '0')}`;

async function insert(db: Database, table: string, rows: readonly object[]): Promise<void> {
  const names = Object.keys(rows[0] ?? {}).join(', ');
  for (let at = 0; at < rows.length; at += 5_000) {
    await db.query(
      `INSERT INTO ${table} (${names}) SELECT ${names} FROM jsonb_populate_recordset(NULL::${table}, $1::jsonb)`,
      [JSON.stringify(rows.slice(at, at + 5_000))],
    );
  }
}

/** Their user ids, in this order. Practices must fit into 32 bits, as those of an organization do. */
export async function addPeople(db: Database, people: readonly Person[]): Promise<string[]> {
  const roles = REACHES.map((reach, at) => ({ reach, role_id: uuid(1, at), permission_id: uuid(2, at) }));
  await insert(
    db,
    'roles',
    roles.map(({ role_id, reach }) => ({
      role_id,
      name: `sees ${reach}`,
      is_system_role: true,
      is_active: true,
    })),
  );
  await insert(
    db,
    'permissions',
    roles.map(({ permission_id, reach }) => ({
      permission_id,
      name: `analytics:read:${reach}`,
      resource: 'analytics',
      action: 'read',
      scope: reach,
      is_active: true,
    })),
  );
  await insert(
    db,
    'role_permissions',
    roles.map(({ role_id, permission_id }, at) => ({
      role_permission_id: uuid(3, at),
      role_id,
      permission_id,
    })),
  );
  const users = people.map((person, at) => ({ ...person, user: uuid(4, at), organization: uuid(5, at) }));
  await insert(
    db,
    'organizations',
    users.map(({ organization, practices }, at) => ({
      organization_id: organization,
      name: `organization ${at}`,
      slug: `organization-${at}`,
      practice_uids: practices,
      is_active: true,
    })),
  );
  await insert(
    db,
    'users',
    users.map(({ user, provider }, at) => ({
      user_id: user,
      email: `seer-${at}@example.test`,
      first_name: 'Ada',
      last_name: 'Lovelace',
      is_active: true,
      provider_uid: provider,
    })),
  );
  await insert(
    db,
    'user_organizations',
    users.map(({ user, organization }, at) => ({
      user_organization_id: uuid(6, at),
      user_id: user,
      organization_id: organization,
      is_active: true,
    })),
  );
  const granted = users.flatMap(({ user, reach }, at) => {
    const role = roles.find((one) => one.reach === reach);
    return role === undefined
      ? []
      : [{ user_role_id: uuid(7, at), user_id: user, role_id: role.role_id, is_active: true }];
  });
  if (granted.length > 0) await insert(db, 'user_roles', granted);
  await db.query('ANALYZE');
  return users.map(({ user }) => user);
}

/** Their contexts and scopes, in this order. */
export async function seers(engine: Engine, ids: readonly string[]): Promise<Seer[]> {
  const contexts: UserContext[] = [];
  for (let at = 0; at < ids.length; at += 256) {
    const some = ids.slice(at, at + 256).map((id) => engine.getCachedUserContext(id));
    contexts.push(...(await Promise.all(some)));
  }
  return contexts.map((context) => ({ context, scope: engine.scopeOf(context) }));
}
