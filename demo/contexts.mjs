/**
 * Decides whether the contexts of an engine are right, user by user: rights and scopes against the demo's own SQL,
 * the people of the cast against the plan of the data. Measures nothing.
 * Invariant: what is expected never comes from the engine, and each is asked twice, so that a kept answer is judged
 * as well.
 */
import { comparableContext, names } from './checks.mjs';
import { statements } from './statements.mjs';

/** More people than this are judged by a sample. */
const MOST_USERS = 500;
const AT_ONCE = 8;
const SCOPES = ['own', 'organization', 'all'];
/** Asked of every context: held by some as it is, by some as a broader one, by most not at all. */
const QUESTIONS = ['analytics:read', 'dashboards:read', 'users:write', 'reports:delete'].flatMap((pair) =>
  SCOPES.map((scope) => `${pair}:${scope}`),
);
const NOBODY = '00000000-0000-4000-8000-000000000000';
const NOTHING = { kind: 'nothing', practices: [], providers: [] };
const ALL = { kind: 'all', practices: [], providers: null };

/**
 * @param {ReturnType<typeof import('./judge.mjs').createJudge>} judge
 * @param {{ engine: import('../index.js').Engine, query: import('./statements.mjs').CountedQuery,
 *   cast: import('./plan.mjs').Cast, users: import('./plan.mjs').Row[],
 *   say: (text: string, of?: { done: number, total: number }) => void }} input
 */
export async function checkContexts(judge, { engine, query, cast, users, say }) {
  const sql = statements(query);
  const people = sample(users, Object.values(cast));
  const waiting = [...people];
  const work = async () => {
    for (let row = waiting.shift(); row; row = waiting.shift()) {
      const expected = await expectedOf(sql, row);
      for (const time of ['first', 'second']) {
        judge.equal(`user ${row.email}, ${time} time`, await answerOf(engine, row.user_id), expected);
      }
      say('comparing contexts with SQL', { done: people.length - waiting.length, total: people.length });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await checkCast(judge, engine, cast, users);
  return { compared: people.length, users: users.length };
}

/** Every so many, and always the cast. */
function sample(users, cast) {
  const step = Math.ceil(users.length / MOST_USERS);
  return users.filter((user, i) => i % step === 0 || cast.includes(user.user_id));
}

async function expectedOf(sql, row) {
  if (row.deleted_at !== null) return refusal('deleted');
  if (row.is_active !== true) return refusal('inactive');
  const context = await sql.context(await sql.user(row.user_id));
  const held = new Set(names(context.all_permissions));
  const broadest = (pair, least) =>
    SCOPES.slice(SCOPES.indexOf(least)).findLast((scope) => held.has(`${pair}:${scope}`));
  return {
    context: comparableContext(context),
    allowed: QUESTIONS.filter((question) => {
      const [resource, action, scope] = question.split(':');
      return context.is_super_admin || broadest(`${resource}:${action}`, scope) !== undefined;
    }),
    scope: scopeFrom(context, broadest('analytics:read', 'own')),
  };
}

/** The rule, from the words of the documentation. */
function scopeFrom({ is_super_admin, accessible_practices: practices, provider_uid }, granted) {
  if (is_super_admin || granted === 'all') return ALL;
  if (granted === undefined || practices.length === 0) return NOTHING;
  if (granted === 'organization') return { kind: 'rows', practices, providers: null };
  return provider_uid === null ? NOTHING : { kind: 'rows', practices, providers: [provider_uid] };
}

async function answerOf(engine, userId) {
  let context;
  try {
    context = await engine.getCachedUserContext(userId);
  } catch (error) {
    if (error?.code !== 'E_NOT_FOUND') throw error;
    return { code: error.code, reason: error.reason, field: error.field };
  }
  return {
    context: comparableContext(context),
    allowed: QUESTIONS.filter((question) => engine.hasPermission(context, question)),
    scope: { ...engine.scopeOf(context) },
  };
}

const refusal = (reason) => ({ code: 'E_NOT_FOUND', reason, field: 'userId' });

async function checkCast(judge, engine, cast, users) {
  const contextOf = (id) => engine.getCachedUserContext(id);
  const scopeOf = async (id) => ({ ...engine.scopeOf(await contextOf(id)) });
  const refused = {
    deactivated: [cast.deactivated, 'inactive'],
    'with is_active NULL': [cast.undecided, 'inactive'],
    deleted: [cast.deleted, 'deleted'],
    'nobody has heard of': [NOBODY, 'unknown'],
  };
  for (const [name, [id, reason]] of Object.entries(refused)) {
    for (const time of ['first', 'second']) {
      judge.equal(`context of a user ${name}, ${time} time`, await answerOf(engine, id), refusal(reason));
    }
    const { ok, reason: word, status } = await engine.authorizeRequest({ userId: id });
    judge.equal(
      `request of a user ${name}`,
      { ok, word, status },
      { ok: false, word: `user_${reason}`, status: 401 },
    );
  }

  const analyst = await contextOf(cast.analyst);
  judge.equal('analyst: permissions', names(analyst.all_permissions), cast.analystPermissions);
  judge.equal('analyst: no super administrator', analyst.is_super_admin, false);
  judge.equal('analyst: administers no organization', analyst.organization_admin_for, []);
  const mine = { kind: 'rows', practices: cast.analystPractices, providers: null };
  judge.equal('analyst: scope', await scopeOf(cast.analyst), mine);
  const admin = await contextOf(cast.superAdmin);
  judge.equal('super administrator: permissions', names(admin.all_permissions), cast.allPermissions);
  judge.equal('super administrator: is one', admin.is_super_admin, true);
  judge.equal('super administrator: scope', await scopeOf(cast.superAdmin), ALL);
  const { provider_uid } = users.find((user) => user.user_id === cast.provider);
  const { practices, ...own } = await scopeOf(cast.provider);
  judge.equal('provider: scope', own, { kind: 'rows', providers: [provider_uid] });
  judge.equal('provider: one practice', practices.length, 1);
  judge.equal('user without provider: scope', await scopeOf(cast.withoutProvider), NOTHING);
  const outside = await contextOf(cast.withoutOrganization);
  judge.equal(
    'user without organization: permissions',
    names(outside.all_permissions),
    cast.analystPermissions,
  );
  judge.equal('user without organization: practices', outside.accessible_practices, []);
  judge.equal('user without organization: scope', await scopeOf(cast.withoutOrganization), NOTHING);

  let code;
  try {
    engine.scopeOf({ ...admin });
  } catch (error) {
    code = error.code;
  }
  judge.equal('a copied context has no scope', code, 'E_SCOPE');
}
