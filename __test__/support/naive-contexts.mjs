/**
 * The cache of contexts that everybody writes first: GET, load, SET; and DEL after a change, of every context when it
 * cannot tell whose it is. Not a way to cache: it exists so that a test can show that it would notice one like it.
 * Invariant: none, which is the point.
 */
import pg from 'pg';
import { RespClient } from '../servers/resp.mjs';

const CONTEXT = `
  SELECT u.user_id, u.last_name, u.is_active,
    (SELECT coalesce(json_agg(r), '[]') FROM (
       SELECT r.role_id, r.description FROM roles r JOIN user_roles a USING (role_id) WHERE a.user_id = u.user_id) r) AS roles,
    (SELECT coalesce(json_agg(p), '[]') FROM (
       SELECT p.resource, p.action, p.scope FROM user_roles a JOIN role_permissions USING (role_id)
       JOIN permissions p USING (permission_id) WHERE a.user_id = u.user_id AND p.is_active) p) AS all_permissions,
    (SELECT coalesce(json_agg(o), '[]') FROM (
       SELECT o.organization_id, o.name FROM organizations o JOIN user_organizations m USING (organization_id)
       WHERE m.user_id = u.user_id AND m.is_active) o) AS organizations,
    (SELECT coalesce(json_agg(o), '[]') FROM (
       SELECT o.organization_id FROM organizations o JOIN user_organizations m
         ON m.organization_id IN (o.organization_id, o.parent_organization_id)
       WHERE m.user_id = u.user_id AND m.is_active) o) AS accessible_organizations
  FROM users u WHERE u.user_id = $1`;

const DONE = { acknowledged: true, queued: false };

export class NaiveContexts {
  /** @param {{ redisHost: string, redisPort: number, databaseUrl: string }} options */
  constructor({ redisHost, redisPort, databaseUrl }) {
    this.store = new RespClient({ host: redisHost, port: redisPort });
    this.source = new pg.Pool({ connectionString: databaseUrl, max: 8 });
  }

  /** @param {string} userId */
  async getCachedUserContext(userId) {
    const key = `user_context:${userId}`;
    const cached = await this.store.command('GET', key);
    const context = typeof cached === 'string' ? JSON.parse(cached) : await this.#load(key, userId);
    if (context.is_active) return context;
    throw Object.assign(new Error('the user is deactivated'), { code: 'E_NOT_FOUND', reason: 'inactive' });
  }

  /** @param {string} key @param {string} userId */
  async #load(key, userId) {
    const { rows } = await this.source.query(CONTEXT, [userId]);
    await this.store.command('SET', key, JSON.stringify(rows[0]), 'EX', 300);
    return rows[0];
  }

  /** @param {string} userId */
  async invalidateUserContext(userId) {
    await this.store.command('DEL', `user_context:${userId}`);
    return DONE;
  }

  async #invalidateEverybody() {
    const keys = /** @type {string[]} */ (await this.store.command('KEYS', 'user_context:*'));
    if (keys.length > 0) await this.store.command('DEL', ...keys);
    return DONE;
  }

  invalidateRolePermissions = () => this.#invalidateEverybody();
  invalidateUsersWithRole = () => this.#invalidateEverybody();
  invalidateAllRolePermissions = () => this.#invalidateEverybody();
  invalidateOrganizationHierarchy = () => this.#invalidateEverybody();
  invalidateOrganizationMembers = () => this.#invalidateEverybody();

  async close() {
    this.store.close();
    await this.source.end();
  }
}
