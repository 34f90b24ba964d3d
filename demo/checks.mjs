/**
 * Decides whether the answers of a dashboard are right: the first against the plan of the data, all
 * later ones against the first, and the refusals one by one. Measures nothing.
 * Invariant: nothing here reads through the cache under test.
 */
import { isDeepStrictEqual } from 'node:util';
import { authenticated, CHARTS } from './dashboard.mjs';
import { forge } from './tokens.mjs';

/** Collects results; a run is right when `failed` stays empty. */
export function createJudge() {
  const failed = [];
  let passed = 0;
  return {
    failed,
    passed: () => passed,
    /** @param {string} name @param {unknown} given @param {unknown} expected */
    equal(name, given, expected) {
      if (isDeepStrictEqual(given, expected)) passed += 1;
      else failed.push({ name, given: brief(given), expected: brief(expected) });
    },
  };
}

const brief = (value) => (JSON.stringify(value) ?? String(value)).slice(0, 160);

const USER_FIELDS = [
  'user_id',
  'email',
  'first_name',
  'last_name',
  'is_active',
  'email_verified',
  'provider_uid',
  'created_at',
  'updated_at',
];
const pick = (from, fields) => Object.fromEntries(fields.map((f) => [f, from[f]]));

/** What has to be equal in both modes; order inside a set and extra fields do not. */
export function comparable(answer) {
  if (!answer.ok) return answer;
  const { payload, user, context, body } = answer;
  return JSON.parse(
    JSON.stringify({
      payload,
      user: userOf(user),
      context: {
        user: userOf(context),
        roles: context.roles.map((r) => ({ id: r.role_id, permissions: names(r.permissions) })).sort(byId),
        organizations: context.organizations.map((o) => o.organization_id).sort(),
        accessible_organizations: context.accessible_organizations.map((o) => o.organization_id ?? o).sort(),
        accessible_practices: [...context.accessible_practices].sort((a, b) => a - b),
        all_permissions: names(context.all_permissions),
        is_super_admin: context.is_super_admin,
      },
      body,
    }),
  );
}

const byId = (a, b) => (a.id < b.id ? -1 : 1);
const names = (permissions) => [...new Set(permissions.map((p) => p.name))].sort();
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
  judge.equal(
    'practices',
    [...context.accessible_practices].sort((a, b) => a - b),
    cast.analystPractices,
  );
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
    const practices = [...new Set(got.map((row) => row.practice_uid))].sort((a, b) => a - b);
    judge.equal(
      `chart ${filters.measure}`,
      { rows: got.length, sum: (cents / 100).toFixed(2), practices },
      rows[0],
    );
  }
}

/**
 * Requests that must not get through, each asked twice so that a cached answer is judged as well.
 * `revoke` is how the application of this mode revokes a token: `({ jti, userId, expiresAt }) => Promise`.
 */
export async function checkRefusals(judge, steps, { sign, cast, analystToken, revoke }) {
  const cases = [
    ['revoked token', sign({ userId: cast.analyst, jti: cast.revokedJti }), 'token_revoked'],
    ['deactivated user', sign({ userId: cast.deactivated }), 'user_inactive'],
    ['user whose is_active is NULL', sign({ userId: cast.undecided }), 'user_inactive'],
    ['deleted user', sign({ userId: cast.deleted }), 'user_inactive'],
    ['expired token', sign({ userId: cast.analyst, lifetimeSeconds: -60 }), 'token_expired'],
    ['same claims, forged signature', forge(analystToken), 'token_signature'],
  ];
  for (const [name, token, reason] of cases) {
    for (const time of ['first', 'second']) {
      const answer = await authenticated(steps, token, async () => 'let through');
      judge.equal(`${steps.mode}: ${name}, ${time} request`, outcome(answer), reason);
    }
  }
  const jti = `demo-live-${process.pid}-${Date.now()}-${steps.mode}`;
  const live = sign({ userId: cast.analyst, jti });
  const before = await authenticated(steps, live, async () => 'let through');
  judge.equal(`${steps.mode}: token before it is revoked`, outcome(before), 'let through');
  await revoke({ jti, userId: cast.analyst, expiresAt: new Date(Date.now() + 900_000) });
  const after = await authenticated(steps, live, async () => 'let through');
  judge.equal(`${steps.mode}: the request after it was revoked`, outcome(after), 'token_revoked');
}

const outcome = (answer) => (answer.ok ? answer.body : answer.reason);
