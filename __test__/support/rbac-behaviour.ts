/**
 * What contexts and roles promise, whatever the store: registered once per store. Not about changes (those are
 * `rbac-invalidations`), requests (`rbac-requests`) or outages. Invariant: what is right is said by the oracle, and a
 * test uses ids of its own.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import type { Engine, UserContext } from '../../index.js';
import type { Database } from './database.js';
import { outcome, statementsOf } from './engines.js';
import { wrong, wrongRefusal } from './rbac-judge.js';
import type { Oracle } from './rbac-oracle.js';
import { insertRows } from './rbac-tables.js';
import { aMembership, anOrganization, aPerson, type Person, type RbacWorld } from './rbac-world.js';
import type { StoreKind } from './stores.js';

export interface Context {
  readonly db: Database;
  readonly world: RbacWorld;
  readonly oracle: Oracle;
  /** Two engines with the same options: two instances of the application. */
  readonly engine: Engine;
  readonly second: Engine;
}

type Consistency = 'validated' | 'bounded' | 'fresh';

/** A person whose organizations every cache has heard of. */
export async function newPerson({ world, engine }: Context): Promise<Person> {
  const person = await aPerson(world);
  await engine.invalidateOrganizationHierarchy();
  return person;
}

/** The context of a user, which must be what the oracle says, or a refusal that it says. */
export async function right(
  { oracle }: Context,
  engine: Engine,
  userId: string,
  consistency?: Consistency,
): Promise<UserContext | undefined> {
  const told = await outcome(engine.getCachedUserContext(userId, { consistency }));
  expect(wrong(told, await oracle.one(userId))).toBeUndefined();
  return 'value' in told ? told.value : undefined;
}

/** How often each statement ran during an action; those that did not are absent. */
export async function statementsNamed(
  engine: Engine,
  action: () => Promise<unknown>,
): Promise<Record<string, number>> {
  const before = engine.getMetrics().source.statementsByName;
  await action();
  const after = Object.entries(engine.getMetrics().source.statementsByName);
  return Object.fromEntries(
    after
      .map(([name, count]) => [name, count - (before[name] ?? 0)] as const)
      .filter(([, count]) => count > 0),
  );
}

/** What one cold read costs: parts that are stored, or the whole where nothing is. */
const oneRead = (kind: StoreKind): Record<string, number> =>
  kind.caches ? { rbac_parts: 1 } : { rbac_context: 1 };

export function loading(kind: StoreKind, context: () => Context): void {
  const newRoles = (count: number): Promise<string[]> =>
    Promise.all(
      Array.from({ length: count }, (_, index) =>
        context().world.role({ permissions: [`records${index}:read:own`, 'analytics:read:own'] }),
      ),
    );

  it('a cold user whose roles and tree are known is one statement', async () => {
    const { world, engine } = context();
    const held = await newRoles(3);
    const organization = await world.organization({ practice_uids: [1] });
    const [one, other] = await Promise.all(
      [0, 1].map(() => world.user({ roles: held, organizations: [organization] })),
    );
    await engine.invalidateOrganizationHierarchy();
    await right(context(), engine, one as string);
    const cost = await statementsNamed(engine, () => right(context(), engine, other as string));
    expect(cost).toEqual(oneRead(kind));
  });

  it('everything cold is two statements at most: user and tree, then the roles', async () => {
    const { world, engine } = context();
    const held = await newRoles(5);
    const organization = await world.organization({ practice_uids: [1] });
    const user = await world.user({ roles: held, organizations: [organization] });
    await engine.invalidateAllRolePermissions();
    const { rbac_parts: parts = 0, ...others } = await statementsNamed(engine, () =>
      right(context(), engine, user),
    );
    expect(others).toEqual(kind.caches ? {} : { rbac_context: 1 });
    expect(parts).toBeLessThanOrEqual(kind.caches ? 2 : 0);
  });

  it('asking again asks only the store', async () => {
    const { engine } = context();
    const { user } = await newPerson(context());
    await right(context(), engine, user);
    const cost = await statementsNamed(engine, () => right(context(), engine, user));
    expect(cost).toEqual(kind.caches ? {} : { rbac_context: 1 });
  });

  it('fifty users with five roles each, all cold and at once, load each part once', async () => {
    const { world, engine, oracle } = context();
    const held = await newRoles(12);
    const organization = await world.organization({ practice_uids: [1] });
    const users = await Promise.all(
      Array.from({ length: 50 }, (_, index) =>
        world.user({
          roles: Array.from({ length: 5 }, (_, at) => held[(index + 2 * at) % held.length] as string),
          organizations: [organization],
        }),
      ),
    );
    await engine.invalidateAllRolePermissions();
    const cost = await statementsOf(engine, async () => {
      const told = await Promise.all(users.map((user) => outcome(engine.getCachedUserContext(user))));
      for (const [index, user] of users.entries()) {
        expect(wrong(told[index] as (typeof told)[number], await oracle.one(user))).toBeUndefined();
      }
    });
    // Gathered or not: never more than one for each user, each role and the tree.
    expect(cost).toBeGreaterThan(0);
    expect(cost).toBeLessThanOrEqual(kind.caches ? users.length + held.length + 1 : users.length);
    const again = () => Promise.all(users.map((user) => engine.getCachedUserContext(user)));
    expect(await statementsOf(engine, again)).toBe(kind.caches ? 0 : users.length);
  });

  it('fifty callers of one cold user share what is loaded', async () => {
    const { engine, db } = context();
    const { user } = await newPerson(context());
    const unlock = await db.lock('user_roles');
    const cost = await statementsOf(engine, async () => {
      const all = Promise.all(Array.from({ length: 50 }, () => engine.getCachedUserContext(user)));
      await sleep(50);
      await unlock();
      for (const one of await all) expect(one).toEqual((await all)[0]);
    });
    // Without a store a caller shares only a load that began after it: those who came while one ran share the next.
    expect(cost).toBeGreaterThan(0);
    expect(cost).toBeLessThanOrEqual(kind.caches ? 2 : 3);
  });

  if (kind.shared) {
    it('what one instance loaded costs the other no statement', async () => {
      const { engine, second } = context();
      const { user, viewer } = await newPerson(context());
      await right(context(), engine, user);
      const cost = await statementsNamed(second, async () => {
        await right(context(), second, user);
        await second.getCachedRolePermissions(viewer);
      });
      expect(cost).toEqual({});
    });
  }

  it('a thousand organizations, thirty levels deep, with gaps', async () => {
    const { world, db, engine, oracle } = context();
    const tree = Array.from({ length: 1_000 }, (_, index) =>
      anOrganization({ practice_uids: [index, index % 7], is_active: index % 31 !== 17 }),
    );
    for (const [index, organization] of tree.entries()) {
      // A chain of thirty, and everybody else below one of it or below somebody else.
      const parent = index < 30 ? index - 1 : index % 2 === 0 ? (index * 7) % 30 : index - 30;
      organization.parent_organization_id = tree[parent]?.organization_id ?? null;
    }
    const [root, other] = [tree[1], tree[20]];
    const user = await world.user();
    await insertRows(db, {
      organizations: tree,
      user_organizations: [root, other].map((one) => aMembership(user, one?.organization_id as string)),
    });
    await engine.invalidateOrganizationHierarchy();
    const { accessible_organizations: reached } = (await oracle.one(user)).context;
    expect(reached.length).toBeGreaterThan(500);
    expect(reached.length).toBeLessThan(1_000);
    for (let round = 0; round < 2; round += 1) await right(context(), engine, user);
    await right(context(), engine, user, 'fresh');
    await db.query('DELETE FROM organizations WHERE organization_id = ANY($1)', [
      tree.map((organization) => organization.organization_id),
    ]);
    await engine.invalidateOrganizationHierarchy();
    expect((await right(context(), engine, user))?.accessible_organizations).toEqual([]);
  });
}

export function contexts(kind: StoreKind, context: () => Context): void {
  it('is the frozen object of before while nothing changed, parsed once', async () => {
    const { engine } = context();
    const { user } = await newPerson(context());
    const stranger = await newPerson(context());
    const first = await engine.getCachedUserContext(user);
    expect(Object.isFrozen(first) && Object.isFrozen(first.roles[0]?.permissions)).toBe(true);
    if (!kind.caches) return;
    await engine.invalidateRolePermissions(stranger.viewer);
    const parse = vi.spyOn(JSON, 'parse');
    try {
      for (let round = 0; round < 10; round += 1) expect(await engine.getCachedUserContext(user)).toBe(first);
      expect(parse).not.toHaveBeenCalled();
    } finally {
      parse.mockRestore();
    }
  });

  it.each([
    ['unknown', undefined],
    ['inactive', { is_active: false }],
    ['inactive', { is_active: null }],
    ['deleted', { deleted_at: '2020-01-01' }],
    ['deleted', { deleted_at: '2020-01-01', is_active: false }],
  ] as const)('a user who is %s has none, and that is cached: %j', async (reason, columns) => {
    const { world, db, engine } = context();
    const user = columns === undefined ? randomUUID() : await world.user(columns);
    for (const consistency of ['validated', 'validated', 'bounded', 'fresh'] as const) {
      const told = await outcome(engine.getCachedUserContext(user, { consistency }));
      expect(wrongRefusal(told, reason)).toBeUndefined();
    }
    const cost = await statementsOf(engine, () => outcome(engine.getCachedUserContext(user)));
    expect(cost).toBe(kind.caches ? 0 : 1);
    if (columns === undefined) await world.user({ user_id: user });
    else await db.query('UPDATE users SET is_active = true, deleted_at = NULL WHERE user_id = $1', [user]);
    await engine.invalidateUserContext(user, 'activated');
    expect((await right(context(), engine, user))?.user_id).toBe(user);
  });

  it.each(['', 'x', '3f2504e04f8911d39a0c0305e82c3301', '3f2504e0-4f89-11d3-9a0c-0305e82c330g', '\uD800'])(
    'the id %j is refused',
    async (id) => {
      const { engine } = context();
      const refusal = (field: string) => ({ code: 'E_INVALID_ARGUMENT', field });
      await expect(engine.getCachedUserContext(id)).rejects.toMatchObject(refusal('userId'));
      await expect(engine.invalidateUserContext(id)).rejects.toMatchObject(refusal('userId'));
      await expect(engine.getCachedRolePermissions(id)).rejects.toMatchObject(refusal('roleId'));
      await expect(engine.invalidateRolePermissions(id)).rejects.toMatchObject(refusal('roleId'));
      await expect(engine.invalidateUsersWithRole(id)).rejects.toMatchObject(refusal('roleId'));
      await expect(engine.invalidateOrganizationMembers(id)).rejects.toMatchObject(refusal('organizationId'));
    },
  );

  it('both spellings of an id are one entry', async () => {
    const { engine, db } = context();
    const { user } = await newPerson(context());
    await engine.getCachedUserContext(user.toUpperCase());
    expect(await statementsOf(engine, () => engine.getCachedUserContext(user))).toBe(kind.caches ? 0 : 1);
    await db.query(`UPDATE users SET first_name = 'Grace' WHERE user_id = $1`, [user]);
    await engine.invalidateUserContext(user.toUpperCase());
    expect((await right(context(), engine, user))?.first_name).toBe('Grace');
  });

  it('an assignment that expires while it is cached is gone at that moment, without any invalidation', async () => {
    const { world, engine, second, db } = context();
    const { user, editor, top } = await newPerson(context());
    const readers = [engine, kind.shared ? second : engine];
    await db.query('DELETE FROM user_roles WHERE user_id = $1', [user]);
    const admin = await world.role({ name: 'organization_admin', is_system_role: true });
    const soon = new Date(Date.now() + 1_500);
    for (const [role, organization] of [
      [editor, null],
      [admin, top],
    ] as const) {
      await world.assign(user, role, { organization_id: organization, expires_at: soon.toISOString() });
    }
    for (const by of readers) {
      await by.invalidateUserContext(user);
      const held = await by.getCachedUserContext(user);
      expect([held.roles.length, held.organization_admin_for]).toEqual([2, [top]]);
      // Sooner than the end it is answered, and later it is not, by whichever way.
      expect(Date.now()).toBeLessThan(soon.getTime());
      await by.getCachedUserContext(user, { consistency: 'bounded' });
    }
    await sleep(soon.getTime() - Date.now() + 20);
    for (const by of readers) {
      for (const consistency of ['bounded', 'validated', 'fresh'] as const) {
        const left = await right(context(), by, user, consistency);
        expect([left?.roles, left?.user_roles, left?.organization_admin_for]).toEqual([[], [], []]);
      }
    }
  });

  it('fresh is the source, whatever is cached', async () => {
    const { engine, db } = context();
    const { user, viewer } = await newPerson(context());
    await right(context(), engine, user);
    await db.query('DELETE FROM user_roles WHERE user_id = $1 AND role_id = $2', [user, viewer]);
    const cost = await statementsNamed(engine, async () => {
      expect((await right(context(), engine, user, 'fresh'))?.roles).toHaveLength(1);
    });
    expect(cost).toEqual({ rbac_context: 1 });
    await engine.invalidateUserContext(user, 'role_removed');
    expect((await right(context(), engine, user))?.roles).toHaveLength(1);
  });
}

export function roles(kind: StoreKind, context: () => Context): void {
  it('a role is its row and its permissions, on a miss and on a hit alike', async () => {
    const { engine, oracle } = context();
    const { viewer } = await newPerson(context());
    const expected = (await oracle.roles()).get(viewer);
    const first = await engine.getCachedRolePermissions(viewer);
    expect(first).toEqual(expected);
    expect(Object.isFrozen(first)).toBe(true);
    const cost = await statementsOf(engine, async () => {
      const again = await engine.getCachedRolePermissions(viewer);
      expect(again).toEqual(expected);
      if (kind.caches) expect(again).toBe(first);
    });
    expect(cost).toBe(kind.caches ? 0 : 1);
  });

  it.each([
    ['unknown', undefined],
    ['inactive', { is_active: false }],
    ['inactive', { is_active: null }],
    ['deleted', { deleted_at: '2020-01-01' }],
  ] as const)('a role that is %s is null: %j', async (_, columns) => {
    const { world, engine } = context();
    const id = columns === undefined ? randomUUID() : await world.role(columns);
    for (let round = 0; round < 2; round += 1) expect(await engine.getCachedRolePermissions(id)).toBeNull();
  });

  it('a role of an organization that is not active is a role, but nobody holds it', async () => {
    const { world, engine } = context();
    const organization = await world.organization({ is_active: null });
    const role = await world.role({ organization_id: organization, permissions: ['analytics:read:all'] });
    const user = await world.user({ roles: [role] });
    await engine.invalidateOrganizationHierarchy();
    expect(await engine.getCachedRolePermissions(role)).toMatchObject({ organization_id: organization });
    expect((await right(context(), engine, user))?.roles).toEqual([]);
  });
}
