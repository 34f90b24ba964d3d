-- What was committed since the last call. One statement, therefore one snapshot: what the answer's snapshot sees and
-- $1 did not see is in the answer, whole and once, in whatever order the transactions began, wrote or ended.
--
-- $1 text  the last answer's snapshot, or NULL      $2 text  the last answer's server, or NULL
-- Answers one row:
--   snapshot text   $1 of the next call, to be kept only after the events took effect; NULL on a replica, whose
--                   snapshots do not tell which transactions are open: such a server cannot be tailed
--   server text     $2 of the next call: another one after a restart or a failover, which may have lost transactions
--   now_ms bigint   the database's clock before the snapshot: what was committed until then is in the answer
--   reset boolean   changes may be missing from the answer, everything must be voided; the events may be ignored.
--                   No $1; another server; $1 from the future (an older copy); notes after $1 were already pruned; more
--                   events than an answer holds
--   kinds, refs text[]   the distinct events, in pairs: user, role, tree, token, all
--   lag_ms bigint   age of the oldest of them; 0 without any
-- Run it outside of a transaction block. After a lost connection pass NULL for $2 or, to be safe from a crash that took
-- transactions back, for $1.
WITH fresh AS (
  -- Not visible in $1 and not younger than this snapshot, as ranges of the index. Equal to xid >= pg_snapshot_xmin($1)
  -- AND NOT pg_visible_in_snapshot(xid, $1), which reads all rows since the oldest open transaction again and again.
  -- The upper end keeps out rows that a dump brought from another server.
  SELECT kind, ref, horizon, at FROM bcos_cache.outbox
  WHERE xid >= pg_snapshot_xmax($1::text::pg_snapshot) AND xid < pg_snapshot_xmax(pg_current_snapshot())
  UNION ALL
  SELECT kind, ref, horizon, at FROM bcos_cache.outbox
  WHERE xid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot)))
),
events AS (
  SELECT kind, ref FROM fresh WHERE kind <> 'permission'
  UNION
  -- Looked up now, when a grant that was uncommitted during the permission's change is visible.
  SELECT 'role', held.{role_permissions.role_id}::text COLLATE "C"
  FROM fresh JOIN {role_permissions} AS held ON held.{role_permissions.permission_id}::text COLLATE "C" = fresh.ref
  WHERE fresh.kind = 'permission' AND held.{role_permissions.role_id} IS NOT NULL
  LIMIT 100001
),
identity AS (
  SELECT floor(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text AS server
)
SELECT
  CASE WHEN NOT pg_is_in_recovery() THEN pg_current_snapshot()::text END AS snapshot,
  (SELECT server FROM identity) AS server,
  floor(extract(epoch FROM now()) * 1000)::bigint AS now_ms,
  $1::text IS NULL
    OR coalesce($2::text <> (SELECT server FROM identity), false)
    OR pg_snapshot_xmax($1::text::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot())
    -- A row that was unseen at $1 and is nearly old enough to let others be pruned (see prune.sql).
    OR EXISTS (
      SELECT FROM fresh
      WHERE horizon > pg_snapshot_xmin($1::text::pg_snapshot) AND at < now() - interval '45 minutes'
    )
    OR count(*) > 100000 AS reset,
  coalesce(array_agg(kind), ARRAY[]::text[]) AS kinds,
  coalesce(array_agg(ref), ARRAY[]::text[]) AS refs,
  coalesce((SELECT floor(extract(epoch FROM clock_timestamp() - min(at)) * 1000) FROM fresh), 0)::bigint AS lag_ms
FROM events
