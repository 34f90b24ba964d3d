-- bcos-cache: removes what install.sql made: triggers, functions, view, outbox, schema. Harmless when nothing is there.
-- It finds the triggers by their functions, so it names no table and works after one was renamed, mapped otherwise or
-- dropped. Set CACHE_TAIL_ENABLED=false first: a tailer whose outbox is gone reports errors.
--
-- Run it as the role that ran install.sql. One transaction: it waits at most 5 s for each table and then gives up
-- without having changed anything. Through a driver: ROLLBACK after an error.
--
-- Invariant: only objects of install.sql are dropped; anything else in the schema makes it fail as a whole.

BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL statement_timeout = 0;
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL client_min_messages = warning;

DO $bcos$
DECLARE
  installed record;
BEGIN
  FOR installed IN
    SELECT pg_trigger.tgname AS name, pg_trigger.tgrelid::regclass AS relation
    FROM pg_trigger
    JOIN pg_proc ON pg_proc.oid = pg_trigger.tgfoid
    JOIN pg_namespace ON pg_namespace.oid = pg_proc.pronamespace
    WHERE pg_namespace.nspname = 'bcos_cache' AND NOT pg_trigger.tgisinternal
    ORDER BY pg_trigger.tgrelid, pg_trigger.tgname
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', installed.name, installed.relation);
  END LOOP;
END
$bcos$;

DROP FUNCTION IF EXISTS
  bcos_cache.organizations_changed(),
  bcos_cache.users_changed(),
  bcos_cache.roles_changed(),
  bcos_cache.permissions_changed(),
  bcos_cache.role_permissions_changed(),
  bcos_cache.user_roles_changed(),
  bcos_cache.user_organizations_changed(),
  bcos_cache.token_blacklist_changed(),
  bcos_cache.truncated(),
  bcos_cache.users_truncating();
DROP VIEW IF EXISTS bcos_cache.versions;
DROP TABLE IF EXISTS bcos_cache.outbox;
DROP SCHEMA IF EXISTS bcos_cache;

COMMIT;
