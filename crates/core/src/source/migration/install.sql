-- bcos-cache: lets the cache see writes that were not made through it. Triggers note, in the writer's own transaction,
-- whose cached entries a statement touched; the tailer reads the notes and invalidates. Optional; PostgreSQL 14 or newer.
--
-- Run it as the owner of the mapped tables (or a superuser) who may also create schemas in this database; run it again
-- after an upgrade of bcos-cache, a change of the mapped names, or a new partition: it replaces what is there. It is one
-- transaction; it waits at most 5 s for each table and then gives up without having changed anything. Before a mapped
-- column is renamed or dropped, run remove.sql: the functions name the columns, and writes to that table would fail.
-- Whoever runs it through a driver ends the transaction that an error leaves open (ROLLBACK, or a closed connection).
--
-- Writers need no rights here: the trigger functions run with the rights of the role that ran this. Nobody is granted
-- anything. A cache that connects as another role needs
--   GRANT USAGE ON SCHEMA bcos_cache TO cache_role;
--   GRANT SELECT, DELETE ON bcos_cache.outbox TO cache_role;
-- and SELECT on the mapped tables, which it has anyway. LISTEN needs no right.
--
-- Not seen: rows that logical replication applies here, ALTER TABLE ... ATTACH or DETACH PARTITION, direct writes to a
-- partition that is newer than the last run of this script, and writes while somebody has disabled the triggers.
--
-- Invariant: a statement that changes nothing the cache keeps writes no row; outbox rows are only inserted and deleted,
-- never updated or locked, so no transaction ever waits for another one because of them.

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = 0;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

-- In a schema made by somebody else the outbox could have triggers, which would run with the rights of our functions.
DO $bcos$
DECLARE
  owner text := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'bcos_cache');
BEGIN
  IF owner <> current_user THEN
    RAISE 'schema bcos_cache belongs to %, not to %', owner, current_user
      USING HINT = 'Run this script as its owner, or have the owner run remove.sql first.';
  END IF;
END
$bcos$;

CREATE SCHEMA IF NOT EXISTS bcos_cache;
COMMENT ON SCHEMA bcos_cache IS 'Notes of changes for bcos-cache; its remove.sql removes them and the triggers.';

-- kind: user (ref: user_id), role (role_id), permission (permission_id), token (jti), tree (none), all (none).
-- xid: the writer's top-level transaction, also inside savepoints.
-- horizon: all transactions below it had ended when the row was written. Transactions below the horizon of a row that is
-- an hour old ended at least an hour ago: that is what may be pruned, however long they had been open before.
CREATE TABLE IF NOT EXISTS bcos_cache.outbox (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid      xid8 NOT NULL DEFAULT pg_current_xact_id(),
  horizon  xid8 NOT NULL DEFAULT pg_snapshot_xmin(pg_current_snapshot()),
  kind     text COLLATE "C" NOT NULL,
  ref      text COLLATE "C" NOT NULL,
  at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS outbox_xid ON bcos_cache.outbox (xid);

-- The version of a user, role or tree: it grows with every committed change, in the writer's own transaction, and takes no
-- lock that another writer would wait for. Of changes of the last hour at least: after that they may be pruned.
CREATE OR REPLACE VIEW bcos_cache.versions AS
  SELECT kind, ref, max(id) AS version FROM bcos_cache.outbox GROUP BY kind, ref;

-- TRUNCATE tells no rows. PREPARE TRANSACTION refuses transactions that notify: where it is enabled, polling must do.
CREATE OR REPLACE FUNCTION bcos_cache.truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $bcos$
BEGIN
  INSERT INTO bcos_cache.outbox (kind, ref) VALUES ('all', '');
  IF current_setting('max_prepared_transactions') = '0' THEN
    PERFORM pg_notify('bcos_cache', '');
  END IF;
  RETURN NULL;
END
$bcos$;

-- The entry of a user by itself is not one that 'all' voids, so every user is noted while the rows are still there. The
-- lock of TRUNCATE is held by then: nobody adds one.
CREATE OR REPLACE FUNCTION bcos_cache.users_truncating() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $bcos$
BEGIN
  -- ONLY: partitions and inheriting tables are truncated by name, with triggers of their own.
  EXECUTE format('INSERT INTO bcos_cache.outbox (kind, ref) SELECT ''user'', r.%1$s::text COLLATE "C" FROM ONLY %2$s AS r
    WHERE r.%1$s IS NOT NULL', $id${users.user_id}$id$, TG_RELID::regclass);
  RETURN NULL;
END
$bcos$;

DO $bcos$
DECLARE
  mapped record;
  relation record;
  event record;
  leftover record;
  trigger_name text;
  installed text[] := ARRAY[]::text[];
BEGIN
  FOR mapped IN
    -- id: which entry a row belongs to. content: the columns the cache reads; others may change unnoticed.
    -- notes: what is written about the changed ids.
    SELECT * FROM (VALUES
      (1, 'organizations', '{organizations}',
        $$r.{organizations.organization_id}::text COLLATE "C"$$,
        $$r.{organizations.name}, r.{organizations.slug}, r.{organizations.parent_organization_id},
          r.{organizations.practice_uids}, r.{organizations.is_active}, r.{organizations.created_at},
          r.{organizations.updated_at}, r.{organizations.deleted_at}$$,
        -- The tree is one entry.
        $$SELECT 'tree', '' WHERE EXISTS (SELECT FROM changed)$$),
      (2, 'users', '{users}',
        $$r.{users.user_id}::text COLLATE "C"$$,
        $$r.{users.email}, r.{users.first_name}, r.{users.last_name}, r.{users.email_verified},
          r.{users.is_active}, r.{users.provider_uid}, r.{users.created_at}, r.{users.updated_at},
          r.{users.deleted_at}$$,
        $$SELECT 'user', changed.id FROM changed$$),
      (3, 'roles', '{roles}',
        $$r.{roles.role_id}::text COLLATE "C"$$,
        $$r.{roles.name}, r.{roles.description}, r.{roles.organization_id}, r.{roles.is_system_role},
          r.{roles.is_active}, r.{roles.created_at}, r.{roles.updated_at}, r.{roles.deleted_at}$$,
        $$SELECT 'role', changed.id FROM changed$$),
      (4, 'permissions', '{permissions}',
        $$r.{permissions.permission_id}$$,
        $$r.{permissions.name}, r.{permissions.description}, r.{permissions.resource}, r.{permissions.action},
          r.{permissions.scope}, r.{permissions.is_active}, r.{permissions.created_at},
          r.{permissions.updated_at}$$,
        -- The roles that hold it, and the permission itself: a grant of it in a transaction that is still open is
        -- invisible from here, as this change is from there. The reader of the note looks the roles up once more.
        $$SELECT 'permission', changed.id::text FROM changed
          UNION ALL
          SELECT DISTINCT 'role', held.{role_permissions.role_id}::text COLLATE "C"
          FROM changed JOIN {role_permissions} AS held ON held.{role_permissions.permission_id} = changed.id
          WHERE held.{role_permissions.role_id} IS NOT NULL$$),
      (5, 'role_permissions', '{role_permissions}',
        $$r.{role_permissions.role_id}::text COLLATE "C"$$,
        $$r.{role_permissions.permission_id}$$,
        $$SELECT 'role', changed.id FROM changed$$),
      (6, 'user_roles', '{user_roles}',
        $$r.{user_roles.user_id}::text COLLATE "C"$$,
        $$r.{user_roles.user_role_id}, r.{user_roles.role_id}, r.{user_roles.organization_id},
          r.{user_roles.granted_by}, r.{user_roles.granted_at}, r.{user_roles.expires_at},
          r.{user_roles.is_active}$$,
        $$SELECT 'user', changed.id FROM changed$$),
      (7, 'user_organizations', '{user_organizations}',
        $$r.{user_organizations.user_id}::text COLLATE "C"$$,
        $$r.{user_organizations.user_organization_id}, r.{user_organizations.organization_id},
          r.{user_organizations.is_active}, r.{user_organizations.joined_at}$$,
        $$SELECT 'user', changed.id FROM changed$$),
      (8, 'token_blacklist', '{token_blacklist}',
        $$r.{token_blacklist.jti}::text COLLATE "C"$$,
        -- Any row revokes, whatever else it says.
        $$r.{token_blacklist.jti}$$,
        $$SELECT 'token', changed.id FROM changed$$)
    ) AS list (place, name, relation, id, content, notes) ORDER BY place
  LOOP
    -- A name that does not exist must fail here, not in the application's next write.
    EXECUTE format('SELECT %s, ROW(%s)::text FROM %s AS r WHERE false', mapped.id, mapped.content, mapped.relation);
    EXECUTE format('WITH changed AS (SELECT %s AS id FROM %s AS r WHERE false) %s',
      mapped.id, mapped.relation, mapped.notes);

    -- An UPDATE is judged by counting: an id has changed if one of its contents is not as often in the new image as in
    -- the old one. Unlike a join of both images this is quick with every plan, and a session keeps the plan of its first
    -- statement, which may have been small: joining 20,000 rows with it takes over a minute. Contents are compared as
    -- text, because not every type can be compared, and some call different values equal.
    EXECUTE format($function$
CREATE OR REPLACE FUNCTION bcos_cache.%1$I() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    WITH changed AS MATERIALIZED (
      SELECT DISTINCT id FROM (
        SELECT 1 AS side, %2$s AS id,
          ROW(%3$s)::text COLLATE "C" AS content
        FROM old_rows AS r
        UNION ALL
        SELECT -1, %2$s,
          ROW(%3$s)::text COLLATE "C"
        FROM new_rows AS r
      ) AS image WHERE id IS NOT NULL GROUP BY id, content HAVING sum(side) <> 0
    )
    INSERT INTO bcos_cache.outbox (kind, ref)
    %4$s;
  ELSE
    WITH changed AS MATERIALIZED (
      SELECT DISTINCT id FROM (SELECT %2$s AS id FROM changed_rows AS r) AS image WHERE id IS NOT NULL
    )
    INSERT INTO bcos_cache.outbox (kind, ref)
    %4$s;
  END IF;
  IF FOUND AND current_setting('max_prepared_transactions') = '0' THEN
    PERFORM pg_notify('bcos_cache', '');
  END IF;
  RETURN NULL;
END
$body$
$function$, mapped.name || '_changed', mapped.id, mapped.content, mapped.notes);

    -- A statement fires the triggers of the table it names, therefore partitions and inheriting tables need their own.
    FOR relation IN
      WITH RECURSIVE family (oid, named) AS (
        VALUES (mapped.relation::regclass::oid, true)
        UNION
        SELECT child.inhrelid, false FROM family JOIN pg_inherits AS child ON child.inhparent = family.oid
      )
      SELECT family.oid, family.oid::regclass AS name FROM family JOIN pg_class ON pg_class.oid = family.oid
      -- Foreign tables cannot have such triggers: as a partition one is left out, as a mapped table it is an error.
      WHERE family.named OR pg_class.relkind IN ('r', 'p') ORDER BY family.oid
    LOOP
      FOR event IN
        SELECT * FROM (VALUES
          ('insert', 'AFTER INSERT', 'REFERENCING NEW TABLE AS changed_rows', mapped.name || '_changed'),
          ('update', 'AFTER UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
            mapped.name || '_changed'),
          ('delete', 'AFTER DELETE', 'REFERENCING OLD TABLE AS changed_rows', mapped.name || '_changed'),
          ('truncate', 'AFTER TRUNCATE', '', 'truncated'),
          ('truncating', 'BEFORE TRUNCATE', '', 'users_truncating')
        ) AS list (name, moment, tables, function)
        WHERE list.name <> 'truncating' OR mapped.name = 'users'
      LOOP
        trigger_name := format('bcos_cache_%s_%s', mapped.name, event.name);
        EXECUTE format(
          'CREATE OR REPLACE TRIGGER %I %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION bcos_cache.%I()',
          trigger_name, event.moment, relation.name, event.tables, event.function);
        -- Also for sessions with session_replication_role = replica.
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', relation.name, trigger_name);
        installed := installed || format('%s %s', relation.oid, trigger_name);
      END LOOP;
    END LOOP;
  END LOOP;

  -- Triggers of an earlier mapping: their functions now name the columns of other tables.
  FOR leftover IN
    SELECT pg_trigger.tgname AS name, pg_trigger.tgrelid::regclass AS relation
    FROM pg_trigger
    JOIN pg_proc ON pg_proc.oid = pg_trigger.tgfoid
    JOIN pg_namespace ON pg_namespace.oid = pg_proc.pronamespace
    WHERE pg_namespace.nspname = 'bcos_cache' AND NOT pg_trigger.tgisinternal
      AND format('%s %s', pg_trigger.tgrelid, pg_trigger.tgname) <> ALL (installed)
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', leftover.name, leftover.relation);
  END LOOP;
END
$bcos$;

-- Firing a trigger needs no right to its function; creating one would.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA bcos_cache FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA bcos_cache FROM PUBLIC;
REVOKE ALL ON SCHEMA bcos_cache FROM PUBLIC;

COMMIT;
