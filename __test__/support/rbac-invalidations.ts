/**
 * Everything that can change about what a user may do, as data: the change, and the function that makes it known. Each
 * must be in effect at once, everywhere, and hold off fills for a caller whose transaction is still open.
 * Invariant: before the invalidation the old answer is cached, so that an invalidation without effect is seen.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import type { Engine, InvalidateOptions, InvalidationResult } from '../../index.js';
import { outcome, statementsOf, until } from './engines.js';
import { type Context, newPerson, right } from './rbac-behaviour.js';
import { wrong } from './rbac-judge.js';
import type { Client } from './rbac-tables.js';
import type { Person } from './rbac-world.js';
import type { StoreKind } from './stores.js';

type Invalidate = (
  engine: Engine,
  person: Person,
  options?: InvalidateOptions,
) => Promise<InvalidationResult>;

interface Change {
  readonly name: string;
  /** SQL, and the ids that are its values. */
  readonly sql: readonly (readonly [text: string, ...values: (keyof Person)[]])[];
  readonly by: Invalidate;
}

const user: Invalidate = (engine, person, options) =>
  engine.invalidateUserContext(person.user, 'changed', options);
const userCache: Invalidate = (engine, person) => engine.invalidateUserCache(person.user);
const role: Invalidate = (engine, person, options) =>
  engine.invalidateRolePermissions(person.viewer, 'role_changed', options);
const allRoles: Invalidate = (engine, _, options) =>
  engine.invalidateAllRolePermissions('catalogue', options);
const holders: Invalidate = (engine, person, options) =>
  engine.invalidateUsersWithRole(person.viewer, 'role_deleted', options);
const members: Invalidate = (engine, person, options) =>
  engine.invalidateOrganizationMembers(person.top, 'members', options);
const tree: Invalidate = (engine, _, options) => engine.invalidateOrganizationHierarchy('moved', options);

const one = (text: string, ...values: (keyof Person)[]) => [[text, ...values]] as const;

const renamed = one(`UPDATE users SET first_name = 'Grace' WHERE user_id = $1`, 'user');
const removed = one('DELETE FROM user_roles WHERE role_id = $1', 'viewer');
const ended = one('DELETE FROM user_organizations WHERE organization_id = $1', 'top');
const closed = one('UPDATE organizations SET is_active = NULL WHERE organization_id = $1', 'top');

export const changes: readonly Change[] = [
  { name: 'a user updated, invalidateUserContext', sql: renamed, by: user },
  { name: 'a user updated, invalidateUserCache', sql: renamed, by: userCache },
  {
    name: 'a user deactivated',
    sql: one('UPDATE users SET is_active = false WHERE user_id = $1', 'user'),
    by: user,
  },
  {
    name: 'a user deactivated, by the older function',
    sql: one('UPDATE users SET is_active = NULL WHERE user_id = $1', 'user'),
    by: userCache,
  },
  {
    name: 'a user deleted',
    sql: one('UPDATE users SET deleted_at = now() WHERE user_id = $1', 'user'),
    by: user,
  },
  {
    name: 'a role assigned',
    sql: one(
      'INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (gen_random_uuid(), $1, $2)',
      'user',
      'editor',
    ),
    by: user,
  },
  { name: 'a role removed', sql: removed, by: user },
  {
    name: 'an assignment deactivated',
    sql: one('UPDATE user_roles SET is_active = NULL WHERE user_id = $1', 'user'),
    by: user,
  },
  {
    name: 'an assignment ended',
    sql: one(`UPDATE user_roles SET expires_at = now() - interval '1 second' WHERE user_id = $1`, 'user'),
    by: user,
  },
  {
    name: 'an organization added',
    sql: one(
      `INSERT INTO user_organizations (user_organization_id, user_id, organization_id, joined_at)
       VALUES (gen_random_uuid(), $1, $2, '2001-01-01')`,
      'user',
      'elsewhere',
    ),
    by: user,
  },
  { name: 'an organization removed', sql: ended, by: user },
  {
    name: 'a role loses a permission',
    sql: one('DELETE FROM role_permissions WHERE permission_id = $1', 'reading'),
    by: role,
  },
  {
    name: 'a role gains a permission',
    sql: one(
      `INSERT INTO role_permissions (role_permission_id, role_id, permission_id)
       SELECT gen_random_uuid(), $1, permission_id FROM role_permissions WHERE role_id = $2`,
      'viewer',
      'editor',
    ),
    by: role,
  },
  {
    name: 'a role deactivated',
    sql: one('UPDATE roles SET is_active = false WHERE role_id = $1', 'viewer'),
    by: role,
  },
  {
    name: 'a role deleted',
    sql: one('UPDATE roles SET deleted_at = now() WHERE role_id = $1', 'viewer'),
    by: role,
  },
  {
    name: 'a role deleted, its assignments with it',
    sql: [...removed, ...one('DELETE FROM roles WHERE role_id = $1', 'viewer')],
    by: holders,
  },
  {
    name: 'a permission deactivated, in whichever roles it is',
    sql: one('UPDATE permissions SET is_active = NULL WHERE permission_id = $1', 'reading'),
    by: allRoles,
  },
  { name: 'all members of an organization removed', sql: ended, by: members },
  { name: 'an organization deactivated, invalidateOrganizationMembers', sql: closed, by: members },
  { name: 'an organization deactivated, invalidateOrganizationHierarchy', sql: closed, by: tree },
  {
    name: 'an organization deleted from the middle of the tree',
    sql: one('UPDATE organizations SET deleted_at = now() WHERE organization_id = $1', 'child'),
    by: tree,
  },
  {
    name: 'an organization moved away',
    sql: one('UPDATE organizations SET parent_organization_id = NULL WHERE organization_id = $1', 'child'),
    by: tree,
  },
  {
    name: 'an organization moved into a circle',
    sql: [
      ...one(
        'UPDATE organizations SET parent_organization_id = $2 WHERE organization_id = $1',
        'top',
        'grandchild',
      ),
      ...one(
        'UPDATE organizations SET parent_organization_id = $2 WHERE organization_id = $1',
        'elsewhere',
        'child',
      ),
    ],
    by: tree,
  },
  {
    name: 'a practice moved away',
    sql: one(`UPDATE organizations SET practice_uids = '{}' WHERE organization_id = $1`, 'child'),
    by: tree,
  },
];

async function apply(client: Client, change: Change, person: Person): Promise<void> {
  for (const [text, ...values] of change.sql) {
    await client.query(
      text,
      values.map((value) => person[value]),
    );
  }
}

const DONE = { acknowledged: true, queued: false };

export function invalidations(kind: StoreKind, context: () => Context): void {
  const readersOf = ({ engine, second }: Context): Engine[] => (kind.shared ? [second, engine] : [engine]);

  it.each(changes)('$name: in effect at once', async (change) => {
    const { engine, db, oracle } = context();
    const person = await newPerson(context());
    const before = await oracle.one(person.user);
    for (const by of readersOf(context())) await right(context(), by, person.user);
    await apply(db, change, person);
    const after = await oracle.one(person.user);
    expect(after).not.toEqual(before);
    if (kind.caches) {
      // It is cached, so what follows is the work of the invalidation.
      for (const by of readersOf(context())) {
        expect(wrong(await outcome(by.getCachedUserContext(person.user)), before)).toBeUndefined();
      }
    }
    expect(await change.by(engine, person)).toEqual(DONE);
    for (const by of readersOf(context())) {
      expect(wrong(await outcome(by.getCachedUserContext(person.user)), after)).toBeUndefined();
      expect(wrong(await outcome(by.getCachedUserContext(person.user)), after)).toBeUndefined();
    }
  });

  it.each([
    ['invalidateUserContext', user],
    ['invalidateUserCache', userCache],
  ])('%s voids both entries of the user', async (_, by) => {
    const { engine, db } = context();
    const person = await newPerson(context());
    const names = (reader: Engine) =>
      Promise.all([
        reader.getUserById(person.user).then((found) => found?.first_name),
        reader.getUserByEmail(person.email).then((found) => found?.first_name),
        reader.getCachedUserContext(person.user).then((found) => found.first_name),
      ]);
    for (const name of ['Ada', 'Grace', 'Hedy']) {
      await db.query('UPDATE users SET first_name = $2 WHERE user_id = $1', [person.user, name]);
      expect(await by(engine, person)).toEqual(DONE);
      for (const reader of readersOf(context())) expect(await names(reader)).toEqual([name, name, name]);
    }
  });

  it('a role is voided for those who ask for it alone, too', async () => {
    const { engine, db } = context();
    const person = await newPerson(context());
    for (const by of [role, allRoles, holders]) {
      for (const reader of readersOf(context())) await reader.getCachedRolePermissions(person.viewer);
      await db.query('UPDATE roles SET description = coalesce(description, $2) || $2 WHERE role_id = $1', [
        person.viewer,
        '+',
      ]);
      const [row] = await db.query<{ description: string }>(
        'SELECT description FROM roles WHERE role_id = $1',
        [person.viewer],
      );
      expect(await by(engine, person)).toEqual(DONE);
      for (const reader of readersOf(context())) {
        expect((await reader.getCachedRolePermissions(person.viewer))?.description).toBe(row?.description);
      }
    }
  });

  holds(kind, context, readersOf);

  it.each(['x'.repeat(65), 'two words', 'naïve', 'a\nb', 'a@b', 7, null, {}])(
    'the reason %j is refused',
    async (reason) => {
      const { engine } = context();
      const { user: id } = await newPerson(context());
      const refusal = { code: 'E_INVALID_ARGUMENT', field: 'reason' };
      const given = reason as string;
      await expect(engine.invalidateUserContext(id, given)).rejects.toMatchObject(refusal);
      await expect(engine.invalidateUsersWithRole(id, given)).rejects.toMatchObject(refusal);
      await expect(engine.invalidateOrganizationMembers(id, given)).rejects.toMatchObject(refusal);
      await expect(engine.invalidateOrganizationHierarchy(given)).rejects.toMatchObject(refusal);
      await expect(engine.invalidateRolePermissions(id, given)).rejects.toMatchObject(refusal);
      await expect(engine.invalidateAllRolePermissions(given)).rejects.toMatchObject(refusal);
    },
  );

  it.each([0, -1, 1.5, 60_001, Number.NaN, '5', null])('holdMs %j is refused', async (holdMs) => {
    const { engine } = context();
    const person = await newPerson(context());
    const options = { holdMs } as InvalidateOptions;
    const refusal = { code: 'E_INVALID_ARGUMENT', field: 'holdMs' };
    for (const by of [user, role, allRoles, holders, members, tree]) {
      await expect(by(engine, person, options)).rejects.toMatchObject(refusal);
    }
  });
}

/** Long enough for the reads in between on a busy machine. */
const HOLD_MS = 1_200;

function holds(kind: StoreKind, context: () => Context, readersOf: (context: Context) => Engine[]): void {
  const named = (name: string) => changes.find((change) => change.name === name) as Change;
  const inTransactions = [
    'a role removed',
    'a role loses a permission',
    'a permission deactivated, in whichever roles it is',
    'a role deleted, its assignments with it',
    'all members of an organization removed',
    'an organization moved away',
  ];

  it.each(inTransactions.map(named))(
    '$name, inside an open transaction: nothing old is stored',
    async (change) => {
      const { world, engine, oracle } = context();
      const person = await newPerson(context());
      await engine.invalidateOrganizationHierarchy();
      const readers = readersOf(context());
      for (const by of readers) await right(context(), by, person.user);
      const before = await oracle.one(person.user);
      await using transaction = await world.transaction();
      await apply(transaction, change, person);
      const from = performance.now();
      expect(await change.by(engine, person, { holdMs: HOLD_MS })).toEqual(DONE);
      for (const by of readers) {
        for (let round = 0; round < 2; round += 1) {
          const cost = await statementsOf(by, async () => {
            const told = await outcome(by.getCachedUserContext(person.user));
            expect(wrong(told, before), 'what is not committed is not true yet').toBeUndefined();
          });
          expect(cost, 'nothing is stored while it is held').toBeGreaterThan(0);
        }
      }
      await transaction.query('COMMIT');
      expect(performance.now() - from).toBeLessThan(HOLD_MS);
      for (const by of readers) await right(context(), by, person.user);
      await sleep(HOLD_MS - (performance.now() - from) + 20);
      for (const by of readers) await right(context(), by, person.user);
      if (!kind.caches) return;
      await until('it is stored again', async () => {
        const costs = readers.map((by) => statementsOf(by, () => right(context(), by, person.user)));
        return (await Promise.all(costs)).every((cost) => cost === 0);
      });
    },
  );
}
