/** Type tests for "Roles, organizations, contexts" and "One request". Compiled, never run. */

import {
  type AuthorizeDenied,
  type Authorized,
  type AuthorizeReason,
  type AuthorizeRequest,
  type AuthorizeResult,
  authorizeRequest,
  type Consistency,
  type ContextOptions,
  createEngine,
  getCachedRolePermissions,
  getCachedUserContext,
  hasPermission,
  type InvalidateOptions,
  type InvalidationResult,
  invalidateAllRolePermissions,
  invalidateOrganizationHierarchy,
  invalidateOrganizationMembers,
  invalidateRolePermissions,
  invalidateUserContext,
  invalidateUsersWithRole,
  type JWTPayload,
  NotFoundError,
  type Organization,
  type Permission,
  type Role,
  type SchemaMapping,
  Scope,
  scopeOf,
  type User,
  type UserContext,
  type UserOrganization,
  type UserRole,
  withRequestSnapshot,
} from 'bcos-cache';
import { check, expectType, type Same } from './expect-type.js';

// Contexts.
expectType<Promise<UserContext>>()(getCachedUserContext('user'));
expectType<Promise<Role | null>>()(getCachedRolePermissions('role', { deadlineMs: 100 }));
void getCachedUserContext('user', { consistency: 'bounded', deadlineMs: 50, signal: undefined });
void getCachedUserContext('user', { consistency: undefined });
check<Same<Consistency, 'validated' | 'bounded' | 'fresh'>>();
check<Same<ContextOptions['consistency'], Consistency | undefined>>();
// @ts-expect-error: no such consistency
void getCachedUserContext('user', { consistency: 'eventual' });
// @ts-expect-error: roles are one at a time, and have no consistency of their own
void getCachedRolePermissions('role', { consistency: 'fresh' });
check<
  Same<
    { [Name in keyof UserContext]: UserContext[Name] },
    {
      readonly user_id: string;
      readonly email: string;
      readonly first_name: string;
      readonly last_name: string;
      readonly is_active: boolean;
      readonly email_verified: boolean | null;
      readonly provider_uid: number | null;
      readonly roles: readonly Role[];
      readonly organizations: readonly Organization[];
      readonly accessible_organizations: readonly Organization[];
      readonly accessible_practices: readonly number[];
      readonly user_roles: readonly UserRole[];
      readonly user_organizations: readonly UserOrganization[];
      readonly current_organization_id: string | null;
      readonly all_permissions: readonly Permission[];
      readonly is_super_admin: boolean;
      readonly organization_admin_for: readonly string[];
    }
  >
>();
export async function greeting(userId: string): Promise<string> {
  const context = await getCachedUserContext(userId);
  // Never null: a user without a context is an error with a reason.
  expectType<string>()(context.first_name);
  expectType<string | undefined>()(context.roles[0]?.permissions[0]?.resource);
  // @ts-expect-error: may be missing
  void context.roles[0].name;
  // @ts-expect-error: frozen
  context.accessible_practices.push(1);
  // @ts-expect-error: frozen
  context.is_super_admin = true;
  // @ts-expect-error: never read, never there
  void context.password_hash;
  return context.current_organization_id ?? 'nowhere';
}
export function explain(error: unknown): string {
  if (error instanceof NotFoundError) return error.reason ?? 'unknown';
  throw error;
}

// Invalidations.
expectType<Promise<InvalidationResult>>()(invalidateUserContext('user'));
void invalidateUserContext('user', 'role_removed');
void invalidateUserContext('user', undefined, { holdMs: 5_000, deadlineMs: 100 });
expectType<Promise<InvalidationResult>>()(invalidateUsersWithRole('role', 'bulk', { holdMs: undefined }));
expectType<Promise<InvalidationResult>>()(invalidateOrganizationMembers('organization'));
expectType<Promise<InvalidationResult>>()(invalidateOrganizationHierarchy('moved'));
expectType<Promise<InvalidationResult>>()(invalidateRolePermissions('role'));
expectType<Promise<InvalidationResult>>()(invalidateAllRolePermissions());
const hold: InvalidateOptions = { holdMs: 1 };
void invalidateAllRolePermissions('catalog', hold);
// @ts-expect-error: the reason comes before the options
void invalidateUserContext('user', { holdMs: 5_000 });
// @ts-expect-error: the unit is in the name
void invalidateUserContext('user', 'why', { hold: 5_000 });
// @ts-expect-error: whose?
void invalidateUserContext();
// @ts-expect-error: null is not "no reason"
void invalidateOrganizationHierarchy(null);

// Permissions and scope.
declare const context: UserContext;
expectType<boolean>()(hasPermission(context, 'users:read:all'));
expectType<Scope>()(scopeOf(context));
expectType<Scope>()(scopeOf(context, 'reports:read'));
expectType<Scope>()(scopeOf(context, undefined));
expectType<readonly number[] | null>()(scopeOf(context).providers);
// @ts-expect-error: a permission is needed
hasPermission(context);
// @ts-expect-error: whose permission? a promise is no context
hasPermission(getCachedUserContext('user'), 'users:read:all');
// @ts-expect-error: what a client sent is no context
scopeOf({ practices: [1] });
// @ts-expect-error: nobody makes one
new Scope();
// @ts-expect-error: nobody derives one
class Wider extends Scope {}
void Wider;
// @ts-expect-error: something of the same shape is none
const forged: Scope = { kind: 'all', practices: [], providers: null };
void forged;
export function rowsOf(scope: Scope): readonly number[] | 'every row' {
  // @ts-expect-error: frozen
  scope.providers = null;
  // @ts-expect-error: frozen
  scope.practices.push(1);
  switch (scope.kind) {
    case 'nothing':
      return [];
    case 'rows':
      return scope.practices;
    case 'all':
      return 'every row';
    default:
      return scope.kind satisfies never;
  }
}
export const isScope = (value: unknown): value is Scope => value instanceof Scope;

// Snapshots.
expectType<Promise<number>>()(withRequestSnapshot(() => 1));
expectType<Promise<UserContext>>()(withRequestSnapshot(() => getCachedUserContext('user')));
declare function page(): Promise<Response>;
expectType<Promise<Response>>()(withRequestSnapshot(page));
// @ts-expect-error: a promise has begun already, outside
void withRequestSnapshot(getCachedUserContext('user'));

// One request.
interface Session {
  jti: string;
  sub: string;
  practices: number[];
}
declare function verify(token: string): Promise<Session>;
declare const headers: Headers;
expectType<Promise<AuthorizeResult<Session>>>()(
  authorizeRequest({ token: headers.get('authorization'), verify }),
);
expectType<Promise<AuthorizeResult>>()(authorizeRequest({ token: undefined }));
expectType<Promise<AuthorizeResult>>()(authorizeRequest({ userId: 'user' }, { deadlineMs: 100 }));
void authorizeRequest<Session>({
  token: 'a.b.c',
  verify,
  tokenId: null,
  userId: undefined,
  permission: ['users:read:all', 'users:update:own'] as const,
  consistency: 'fresh',
});
void authorizeRequest({ userId: 'user', tokenId: 'session', permission: 'users:read:all' });
// @ts-expect-error: neither a token nor a user
void authorizeRequest({});
// @ts-expect-error: the user id may be missing
void authorizeRequest({ userId: undefined as string | undefined });
// @ts-expect-error: nothing to verify
void authorizeRequest({ userId: 'user', verify });
// @ts-expect-error: not built yet, so it must not look as if it did something
void authorizeRequest({ token: 'a.b.c', ip: '192.0.2.1' });
// @ts-expect-error: a verifier that answers yes or no has no payload
void authorizeRequest({ token: 'a.b.c', verify: () => true });
// @ts-expect-error: a list of permissions has texts
void authorizeRequest({ userId: 'user', permission: [undefined] });
// @ts-expect-error: null is not "no permission needed"
void authorizeRequest({ userId: 'user', permission: null });

export async function handle(request: AuthorizeRequest<Session>): Promise<Response | User> {
  const result = await authorizeRequest(request);
  // @ts-expect-error: known only when the request may go on
  void result.context;
  // @ts-expect-error: known only when it may not
  void result.status;
  if (result.ok) {
    expectType<Authorized<Session>>()(result);
    expectType<string>()(result.userId);
    expectType<string | null>()(result.tokenId);
    expectType<Readonly<Session> | null>()(result.payload);
    expectType<UserContext>()(result.context);
    return result.user;
  }
  expectType<AuthorizeDenied>()(result);
  expectType<401 | 403 | 429 | 503>()(result.status);
  expectType<unknown>()(result.cause);
  expectType<number | undefined>()(result.retryAfterMs);
  return new Response(messageOf(result.reason), { status: result.status });
}
function messageOf(reason: AuthorizeReason): string {
  switch (reason) {
    case 'token_missing':
    case 'token_invalid':
    case 'token_unverified':
    case 'token_revoked':
    case 'token_mismatch':
    case 'user_unknown':
    case 'user_inactive':
    case 'user_deleted':
      return 'log in again';
    case 'forbidden':
      return 'not yours';
    case 'rate_limited':
    case 'unavailable':
      return 'try again';
    default:
      return reason satisfies never;
  }
}
export const claimOf = (result: Authorized): JWTPayload['sub'] => result.payload?.sub;

// Tables.
createEngine({
  schema: {
    organizations: { table: 'units', columns: { parent_organization_id: 'parent', practice_uids: 'sites' } },
    roles: { columns: { is_system_role: 'builtin' } },
    permissions: { schema: 'auth', columns: { scope: 'reach' } },
    role_permissions: { table: 'grants' },
    user_roles: { columns: { expires_at: 'until' } },
    user_organizations: { columns: { joined_at: 'since' } },
  },
});
check<
  Same<
    keyof SchemaMapping,
    | 'token_blacklist'
    | 'users'
    | 'organizations'
    | 'roles'
    | 'permissions'
    | 'role_permissions'
    | 'user_roles'
    | 'user_organizations'
  >
>();
// @ts-expect-error: no such column
createEngine({ schema: { user_roles: { columns: { deleted_at: 'x' } } } });
// @ts-expect-error: no such table
createEngine({ schema: { groups: {} } });
