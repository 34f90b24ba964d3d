/**
 * Random worlds of users, roles, permissions and organizations, each from one number. Not a sample of any application:
 * what is rare there is frequent here. Invariant: the same number gives the same rows, and two numbers share no id,
 * so any number of graphs may lie in one database.
 */
import { PASSWORD_HASH } from './database.js';
import { noRows, type RbacRows } from './rbac-tables.js';

export { createRbacTables, insertRows, replaceRows } from './rbac-tables.js';

/** A small generator with a good mix (sfc32); not for secrets. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(
    readonly seed: number,
    readonly stream: number,
  ) {
    [this.#a, this.#b, this.#c] = [seed | 0, stream | 0, 0x9e3779b9 | 0];
    for (let round = 0; round < 15; round += 1) this.bits();
  }

  /** 32 random bits. */
  bits(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** 0 to `most`, both included. */
  upTo(most: number): number {
    return this.bits() % (most + 1);
  }

  chance(probability: number): boolean {
    return this.bits() < probability * 2 ** 32;
  }

  /** One of a list that is not empty. */
  of<T>(list: readonly T[]): T {
    return list[this.upTo(list.length - 1)] as T;
  }

  uuid(): string {
    const hex = Array.from({ length: 4 }, () => this.bits().toString(16).padStart(8, '0')).join('');
    return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
  }
}

/** Their order by bytes differs from the order of UTF-16 units, of any language, and of lower case. */
const NAMES: readonly string[] = [
  ...['A', 'a', 'B', 'b', 'Z', 'z', '_', 'a b', 'ab', 'a-b', 'Ä', 'ä', 'é', 'e\u0301', 'ß', 'ss', 'İ', 'ı'],
  ...["O'Neil", '"quoted"', 'back\\slash', 'new\nline', 'tab\tbed', '', ' ', '%', '{}', '[]', '$1', "'; --"],
  ...[
    '\uFF5E',
    '\u{1F600}',
    '\u{10FFFF}',
    '\uE000',
    '\u2028',
    '\u0001',
    '\u007F',
    '</script>',
    'null',
    'Ω',
    '你好',
  ],
];

/** Few, so that many rows are equally old to the millisecond, or altogether. */
const TIMES: readonly string[] = [
  ...['2024-05-06 07:08:09.123456+00', '2024-05-06 07:08:09.123457+00', '2024-05-06 07:08:09.1239999+00'],
  ...['2024-05-06 09:08:09.123+02', '1999-12-31 23:59:59.0004+14', '0099-01-01 00:00:00.001+00'],
  ...['2026-03-29 01:30:00.5+01', '2024-02-29 23:59:59.999999+00', '2000-01-01 00:00:00+00'],
];

const PAST: readonly string[] = ['2001-01-01 00:00:00+00', '2025-12-31 23:59:59.999999+00', '-infinity'];
const FUTURE: readonly string[] = ['2099-01-01 00:00:00.000001+00', '9999-12-31 23:59:59.999+00', 'infinity'];

const ROLES: readonly string[] = [
  ...['super_admin', 'practice_admin', 'organization_admin', 'viewer', 'analyst', 'analyst'],
  ...['Super_Admin', 'super_admin ', 'super', 'practice_admin,organization_admin'],
];

const RESOURCES: readonly string[] = [
  'analytics',
  'analytics',
  'analytics',
  'settings',
  'users',
  'analytics:read',
  'Analytics',
];
const ACTIONS: readonly string[] = ['read', 'read', 'write', 'manage'];
const SCOPES: readonly string[] = ['own', 'own', 'organization', 'organization', 'all'];

/** `resource:action` texts whose scope is worth asking for, in any graph. */
export const ASKED_SCOPES: readonly string[] = [
  'analytics:read',
  'analytics:write',
  'settings:write',
  'users:manage',
  'nothing:read',
];

/** `resource:action:scope` texts worth asking for. */
export const ASKED_PERMISSIONS: readonly string[] = [
  ...['analytics:read:own', 'analytics:read:organization', 'analytics:read:all'],
  ...['settings:write:organization', 'users:manage:all', 'nothing:read:own'],
];

/** Mostly yes; otherwise no, or not said. */
const flag = (random: Random, yes: number): boolean | null =>
  random.chance(yes) ? true : random.of([false, null]);

const time = (random: Random): string | null =>
  random.chance(0.15) ? null : random.chance(0.03) ? random.of(['infinity', '-infinity']) : random.of(TIMES);

const gone = (random: Random, probability: number): string | null =>
  random.chance(probability) ? random.of([...TIMES, ...FUTURE]) : null;

/** An id of the list, none, or one that belongs to nothing. */
function reference(random: Random, ids: readonly string[], none: number): string | null {
  if (random.chance(none)) return null;
  return ids.length === 0 || random.chance(0.05) ? random.uuid() : random.of(ids);
}

function practices(random: Random): number[] | null {
  if (random.chance(0.1)) return null;
  // Few numbers, so that organizations share practices, 0 among them; sometimes one twice.
  return Array.from({ length: random.upTo(3) }, () =>
    random.chance(0.05) ? random.of([-1, 2_147_483_647]) : random.upTo(6),
  );
}

const label = (random: Random): string => random.of(NAMES) + (random.chance(0.5) ? random.of(NAMES) : '');

const stamps = (random: Random) => ({ created_at: time(random), updated_at: time(random) });

function addOrganizations(random: Random, rows: RbacRows): string[] {
  const ids = Array.from({ length: random.chance(0.05) ? 0 : 1 + random.upTo(6) }, () => random.uuid());
  for (const [index, id] of ids.entries()) {
    // Mostly a tree; otherwise anything: the organization itself, a descendant of it, something unknown.
    const parent =
      index > 0 && random.chance(0.7) ? random.of(ids.slice(0, index)) : reference(random, ids, 0.6);
    rows.organizations.push({
      organization_id: id,
      name: label(random),
      slug: id,
      parent_organization_id: random.chance(0.04) ? id : parent,
      practice_uids: practices(random),
      is_active: flag(random, 0.9),
      ...stamps(random),
      deleted_at: gone(random, 0.05),
    });
  }
  return ids;
}

function addRoles(random: Random, rows: RbacRows, organizations: readonly string[]): string[] {
  const permissions = Array.from({ length: 1 + random.upTo(6) }, () => random.uuid());
  for (const id of permissions) {
    const [resource, action] = [random.of(RESOURCES), random.of(ACTIONS)];
    const scope = random.chance(0.03) ? random.of(['none', 'ALL', '']) : random.of(SCOPES);
    rows.permissions.push({
      permission_id: id,
      name: random.chance(0.7) ? `${resource}:${action}:${scope}` : label(random),
      description: random.chance(0.5) ? null : label(random),
      resource,
      action,
      scope,
      is_active: flag(random, 0.9),
      ...stamps(random),
    });
  }
  const roles = Array.from({ length: 1 + random.upTo(4) }, () => random.uuid());
  for (const id of roles) {
    rows.roles.push({
      role_id: id,
      name: random.chance(0.7) ? random.of(ROLES) : label(random),
      description: random.chance(0.5) ? null : label(random),
      organization_id: reference(random, organizations, 0.7),
      is_system_role: flag(random, 0.6),
      is_active: flag(random, 0.9),
      ...stamps(random),
      deleted_at: gone(random, 0.05),
    });
    // The pair is not unique: the same grant may be there twice.
    for (let grants = random.upTo(6); grants > 0; grants -= 1) {
      const permission = reference(random, permissions, 0) as string;
      for (let twice = random.chance(0.15) ? 2 : 1; twice > 0; twice -= 1) {
        rows.role_permissions.push({
          role_permission_id: random.uuid(),
          role_id: id,
          permission_id: permission,
        });
      }
    }
  }
  return roles;
}

function addUser(random: Random, rows: RbacRows, roles: readonly string[], organizations: readonly string[]) {
  const id = random.uuid();
  rows.users.push({
    user_id: id,
    email: `${random.of(['u', 'U', "o'neil", 'ü', '"q"'])}-${id}@example.test`,
    first_name: label(random),
    last_name: label(random),
    password_hash: random.chance(0.1) ? null : `${PASSWORD_HASH}-${id}`,
    email_verified: random.of([true, false, null]),
    is_active: flag(random, 0.9),
    provider_uid: random.of([null, null, 0, 0, 7, 2_147_483_647, -1]),
    ...stamps(random),
    deleted_at: gone(random, 0.05),
  });
  for (let count = random.chance(0.1) ? 0 : 1 + random.upTo(5); count > 0; count -= 1) {
    const limited = random.chance(0.35);
    rows.user_roles.push({
      user_role_id: random.uuid(),
      user_id: id,
      role_id: reference(random, roles, 0) as string,
      organization_id: reference(random, organizations, 0.6),
      granted_by: random.chance(0.5) ? null : random.uuid(),
      granted_at: time(random),
      expires_at: limited ? random.of(random.chance(0.35) ? PAST : FUTURE) : null,
      is_active: flag(random, 0.9),
    });
  }
  for (let count = random.chance(0.1) ? 0 : 1 + random.upTo(3); count > 0; count -= 1) {
    rows.user_organizations.push({
      user_organization_id: random.uuid(),
      user_id: id,
      organization_id: reference(random, organizations, 0) as string,
      is_active: flag(random, 0.9),
      joined_at: time(random),
    });
  }
}

/** Adds graph number `number` of the series `seed`; answers the ids of its users. */
export function addGraph(rows: RbacRows, seed: number, number: number): readonly string[] {
  const random = new Random(seed, number);
  const before = rows.users.length;
  const organizations = addOrganizations(random, rows);
  const roles = addRoles(random, rows, organizations);
  for (let count = 1 + random.upTo(2); count > 0; count -= 1) addUser(random, rows, roles, organizations);
  return rows.users.slice(before).map((user) => user.user_id);
}

/** Graphs `first` to `first + count - 1` of a series in one set of rows, and which graph each user is of. */
export function graphs(
  seed: number,
  first: number,
  count: number,
): { rows: RbacRows; graphOf: Map<string, number> } {
  const rows = noRows();
  const graphOf = new Map<string, number>();
  for (let number = first; number < first + count; number += 1) {
    for (const user of addGraph(rows, seed, number)) graphOf.set(user, number);
  }
  return { rows, graphOf };
}
