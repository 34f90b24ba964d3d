/**
 * Decides whether the answers of a dashboard are right: the first against the plan of the data, all
 * later ones against the first, and the refusals one by one. Measures nothing; single contexts are
 * judged in `contexts.mjs`.
 * Invariant: nothing here reads through the cache under test.
 */
import { authenticated, CHARTS } from './dashboard.mjs';
import { organizationIds } from './statements.mjs';
import { forge } from './tokens.mjs';

const CONTEXT_USER_FIELDS = [
  'user_id',
  'email',
  'first_name',
  'last_name',
  'is_active',
  'email_verified',
  'provider_uid',
];
const USER_FIELDS = [...CONTEXT_USER_FIELDS, 'created_at', 'updated_at'];
const pick = (from, fields) => Object.fromEntries(fields.map((f) => [f, from[f]]));

/** What has to be equal in both modes; order inside a set and extra fields do not. */
export function comparable(answer) {
  if (!answer.ok) return answer;
  const { payload, user, context, body } = answer;
  return JSON.parse(
    JSON.stringify({ payload, user: userOf(user), context: comparableContext(context), body }),
  );
}

/** The same for a context alone. A context has no dates of its user, the SQL's answer has. */
export function comparableContext(context) {
  return {
    user: pick(context, CONTEXT_USER_FIELDS),
    roles: context.roles.map((r) => ({ id: r.role_id, permissions: names(r.permissions) })).sort(byId),
    organizations: context.organizations.map((o) => o.organization_id).sort(),
    accessible_organizations: organizationIds(context).sort(),
    accessible_practices: ascending(context.accessible_practices),
    current_organization_id: context.current_organization_id,
    all_permissions: names(context.all_permissions),
    is_super_admin: context.is_super_admin,
    organization_admin_for: [...context.organization_admin_for].sort(),
  };
}

const byId = (a, b) => (a.id < b.id ? -1 : 1);
const ascending = (numbers) => [...numbers].sort((a, b) => a - b);
export const names = (permissions) => permissions.map((p) => p.name).sort();
const userOf = (row) => pick(row, USER_FIELDS);

/**
 * The truth about one dashboard, taken from the plan and, for the charts, from sums Postgres makes
 * over the practices of the plan - not over those the application's own RBAC code arrived at.
 */
export async function checkAgainstPlan(judge, dashboard, { pool, cast, users }) {
  const refused = dashboard.answers.filter((a) => !a.ok);
  judge.equal('every request of the analyst is answered', refused, []);
  if (refused.length > 0) return;
  const { user, context } = dashboard.answers[0];
  judge.equal('user', userOf(user), userOf(users.find((u) => u.user_id === cast.analyst)));
  judge.equal('practices', ascending(context.accessible_practices), cast.analystPractices);
  judge.equal('permissions', names(context.all_permissions), cast.analystPermissions);
  judge.equal(
    'the charts have rows at all',
    dashboard.charts.some((chart) => chart.body.length > 0),
    true,
  );
  for (const [i, filters] of CHARTS.entries()) {
    const { rows } = await pool.query(
      `SELECT count(*)::int AS rows, round(coalesce(sum(measure_value), 0), 2)::text AS sum,
              coalesce(array_agg(DISTINCT practice_uid ORDER BY practice_uid), '{}') AS practices
       FROM ih.agg_app_measures
       WHERE measure = $1 AND frequency = $2 AND date_index BETWEEN $3 AND $4 AND practice_uid = ANY($5)`,
      [filters.measure, filters.frequency, filters.start_date, filters.end_date, cast.analystPractices],
    );
    const got = dashboard.charts[i].body;
    const cents = got.reduce((sum, row) => sum + Math.round(row.measure_value * 100), 0);
    const practices = ascending(new Set(got.map((row) => row.practice_uid)));
    judge.equal(
      `chart ${filters.measure}`,
      { rows: got.length, sum: (cents / 100).toFixed(2), practices },
      rows[0],
    );
  }
}

/**
 * Requests that must not get through, each asked twice so that a cached answer is judged as well.
 * `revoke` is how the application of this mode revokes a token: `({ jti, userId, expiresAt }) => Promise`;
 * its id is handed to `revoking` beforehand.
 */
export async function checkRefusals(judge, steps, { sign, cast, analystToken, revoke, revoking }) {
  // One call tells a deleted user from an inactive one; the separate steps end at "no such user".
  const deleted = steps.authorize ? 'user_deleted' : 'user_inactive';
  const cases = [
    ['revoked token', sign({ userId: cast.analyst, jti: cast.revokedJti }), 'token_revoked'],
    ['deactivated user', sign({ userId: cast.deactivated }), 'user_inactive'],
    ['user whose is_active is NULL', sign({ userId: cast.undecided }), 'user_inactive'],
    ['deleted user', sign({ userId: cast.deleted }), deleted],
    ['user without the permission', sign({ userId: cast.withoutProvider }), 'forbidden'],
    ['expired token', sign({ userId: cast.analyst, lifetimeSeconds: -60 }), 'token_expired'],
    ['same claims, forged signature', forge(analystToken), 'token_signature'],
  ];
  for (const [name, token, reason] of cases) {
    for (const time of ['first', 'second']) {
      const answer = await authenticated(steps, token, async () => 'let through');
      judge.equal(`${steps.mode}: ${name}, ${time} request`, outcome(answer), reason);
    }
  }
  const jti = `demo-live-${process.pid}-${Date.now()}-${steps.mode.replaceAll(' ', '-')}`;
  const live = sign({ userId: cast.analyst, jti });
  const before = await authenticated(steps, live, async () => 'let through');
  judge.equal(`${steps.mode}: token before it is revoked`, outcome(before), 'let through');
  revoking(jti);
  await revoke({ jti, userId: cast.analyst, expiresAt: new Date(Date.now() + 900_000) });
  const after = await authenticated(steps, live, async () => 'let through');
  judge.equal(`${steps.mode}: the request after it was revoked`, outcome(after), 'token_revoked');
}

const outcome = (answer) => (answer.ok ? answer.body : answer.reason);
