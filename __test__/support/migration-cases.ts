/**
 * Statements and what the triggers of the migration write for each, as data. Not a test.
 * Invariant: every watched table with INSERT, UPDATE of what counts, UPDATE of what does not, DELETE, and a changed id.
 */
import type { Note } from './migration.js';
import { idOf, token } from './migration-rows.js';

/** Whatever the statement: these rows, in any order, and no other. */
export const CASES: readonly [sql: string, notes: Note[]][] = [
  [
    `INSERT INTO users (user_id, email, first_name, last_name) VALUES (:u8, '8', 'a', 'b'), (:u9, '9', 'a', 'b')`,
    ['user u8', 'user u9'],
  ],
  [`UPDATE users SET is_active = false WHERE user_id = :u1`, ['user u1']],
  [`UPDATE users SET is_active = NULL WHERE user_id = :u1`, ['user u1']],
  [`UPDATE users SET email = upper(email)`, ['user u1', 'user u2', 'user u3']],
  [`UPDATE users SET provider_uid = 0 WHERE user_id = :u1`, ['user u1']],
  [`UPDATE users SET deleted_at = now() WHERE user_id = :u2`, ['user u2']],
  [`UPDATE users SET updated_at = updated_at + interval '1 microsecond' WHERE user_id = :u2`, ['user u2']],
  [`UPDATE users SET user_id = :u9 WHERE user_id = :u3`, ['user u3', 'user u9']],
  [`UPDATE users SET last_login = now(), password_hash = 'x'`, []],
  [`UPDATE users SET is_active = is_active, email = email`, []],
  [`UPDATE users SET is_active = false WHERE false`, []],
  [`DELETE FROM users WHERE user_id = :u3`, ['user u3']],

  [
    `INSERT INTO user_roles (user_role_id, user_id, role_id) VALUES (:a8, :u1, :r2), (:a9, :u1, :r3)`,
    ['user u1'],
  ],
  [`UPDATE user_roles SET is_active = false WHERE role_id = :r1`, ['user u1', 'user u2']],
  [`UPDATE user_roles SET expires_at = now() WHERE user_role_id = :a3`, ['user u2']],
  [`UPDATE user_roles SET user_id = :u3 WHERE user_role_id = :a1`, ['user u1', 'user u3']],
  // Both had a role and have it still, but under another id of the assignment.
  [
    `UPDATE user_roles SET user_id = CASE user_id WHEN :u1 THEN :u2::uuid ELSE :u1 END WHERE role_id = :r1`,
    ['user u1', 'user u2'],
  ],
  [`UPDATE user_roles SET is_active = is_active`, []],
  [`DELETE FROM user_roles WHERE user_id = :u2`, ['user u2']],
  [`DELETE FROM user_roles WHERE user_id = :u3`, []],

  [
    `INSERT INTO user_organizations (user_organization_id, user_id, organization_id) VALUES (:m9, :u3, :o2)`,
    ['user u3'],
  ],
  [`UPDATE user_organizations SET is_active = false`, ['user u1', 'user u2']],
  [`UPDATE user_organizations SET user_id = :u3 WHERE user_id = :u1`, ['user u1', 'user u3']],
  [`UPDATE user_organizations SET joined_at = joined_at`, []],
  [`DELETE FROM user_organizations WHERE user_id = :u1`, ['user u1']],

  [`INSERT INTO roles (role_id, name) VALUES (:r9, 'r9')`, ['role r9']],
  [`UPDATE roles SET is_active = false WHERE role_id IN (:r1, :r3)`, ['role r1', 'role r3']],
  [`UPDATE roles SET role_id = :r9 WHERE role_id = :r3`, ['role r3', 'role r9']],
  [`UPDATE roles SET name = name`, []],
  [`DELETE FROM roles WHERE role_id = :r3`, ['role r3']],

  [`INSERT INTO role_permissions VALUES (:g8, :r3, :p1), (:g9, :r3, :p2)`, ['role r3']],
  [`UPDATE role_permissions SET role_id = :r3 WHERE role_permission_id = :g1`, ['role r1', 'role r3']],
  [`UPDATE role_permissions SET permission_id = :p3 WHERE permission_id = :p1`, ['role r1', 'role r2']],
  // The id of a grant is in nothing that is cached.
  [`UPDATE role_permissions SET role_permission_id = :g9 WHERE role_permission_id = :g1`, []],
  [`DELETE FROM role_permissions`, ['role r1', 'role r2']],

  [
    `INSERT INTO permissions (permission_id, name, resource, action, scope) VALUES (:p9, 'p9', 'x', 'y', 'all')`,
    ['permission p9'],
  ],
  [
    `UPDATE permissions SET is_active = false WHERE permission_id = :p1`,
    ['permission p1', 'role r1', 'role r2'],
  ],
  [
    `UPDATE permissions SET is_active = false`,
    ['permission p1', 'permission p2', 'permission p3', 'role r1', 'role r2'],
  ],
  [`UPDATE permissions SET scope = 'all' WHERE permission_id = :p3`, ['permission p3']],
  [`UPDATE permissions SET scope = scope`, []],
  [`DELETE FROM permissions WHERE permission_id = :p3`, ['permission p3']],

  [
    `INSERT INTO organizations (organization_id, name, slug) VALUES (:o8, '8', '8'), (:o9, '9', '9')`,
    ['tree'],
  ],
  [`UPDATE organizations SET practice_uids = practice_uids || 3 WHERE organization_id = :o1`, ['tree']],
  [`UPDATE organizations SET parent_organization_id = :o1 WHERE organization_id = :o2`, ['tree']],
  [`UPDATE organizations SET practice_uids = practice_uids || '{}'::int[] WHERE organization_id = :o1`, []],
  [`DELETE FROM organizations WHERE organization_id = :o2`, ['tree']],
  [`DELETE FROM organizations WHERE false`, []],

  [token('j9'), ['token j9']],
  [`UPDATE token_blacklist SET jti = 'j9' WHERE jti = 'j1'`, ['token j1', 'token j9']],
  [`UPDATE token_blacklist SET jti = CASE jti WHEN 'j1' THEN 'J1' ELSE jti END`, ['token J1', 'token j1']],
  [`UPDATE token_blacklist SET expires_at = now(), reason = 'x'`, []],
  [`DELETE FROM token_blacklist`, ['token j1', 'token j2']],

  // Statements that are several.
  [`${token('j1')} ON CONFLICT DO NOTHING`, []],
  [`${token('j9')} ON CONFLICT DO NOTHING`, ['token j9']],
  [
    `INSERT INTO users (user_id, email, first_name, last_name) VALUES (:u1, 'new', 'a', 'b'), (:u9, '9', 'a', 'b')
    ON CONFLICT (user_id) DO UPDATE SET email = excluded.email`,
    ['user u1', 'user u9'],
  ],
  [
    `WITH gone AS (DELETE FROM user_roles WHERE user_id = :u1 RETURNING *), moved AS (UPDATE user_roles SET is_active = false WHERE user_role_id = :a3)
    INSERT INTO user_organizations SELECT :m9, user_id, :o2 FROM gone`,
    ['user u1', 'user u1', 'user u2'],
  ],
  [
    `COPY roles (role_id, name) FROM PROGRAM 'printf "${idOf('r8')}\\ta\\n${idOf('r9')}\\tb\\n"'`,
    ['role r8', 'role r9'],
  ],

  [`TRUNCATE user_roles`, ['all']],
  [`TRUNCATE token_blacklist`, ['all']],
  // Both tables that lose their rows say so.
  [`TRUNCATE permissions CASCADE`, ['all', 'all']],
  // A user has an entry that no epoch voids.
  [`TRUNCATE users CASCADE`, ['all', 'all', 'all', 'user u1', 'user u2', 'user u3']],

  // What an application may do to hide from triggers.
  [
    `SET LOCAL session_replication_role = replica; UPDATE users SET is_active = false WHERE user_id = :u1`,
    ['user u1'],
  ],
  [
    `SET LOCAL search_path = pg_temp; UPDATE public.users SET is_active = false WHERE user_id = :u1`,
    ['user u1'],
  ],
  [
    `CREATE TEMP TABLE old_rows (x int) ON COMMIT DROP; UPDATE users SET is_active = false WHERE user_id = :u1`,
    ['user u1'],
  ],
];
