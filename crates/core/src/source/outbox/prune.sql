-- Deletes notes of transactions that ended more than an hour ago, a batch at a time: call again, after a pause, while
-- 5,000 rows are deleted. Any number of instances may do it, as often as once a minute; they need not agree.
--
-- A note's own age is not enough: a transaction that was open for hours commits notes that are old at once. Therefore
-- the transaction must be below the horizon of a note that is an hour old. The notes of the last writer stay until
-- somebody has written after it, and while a transaction with an id is open, here or in another database of the server,
-- the notes since its beginning stay. Notes that a dump brought from another server (xid of the future) go by age alone.
DELETE FROM bcos_cache.outbox WHERE id IN (
  SELECT id FROM bcos_cache.outbox
  WHERE at < now() - interval '1 hour' AND (
    xid < (
      SELECT horizon FROM bcos_cache.outbox
      WHERE at < now() - interval '1 hour' AND xid < pg_snapshot_xmax(pg_current_snapshot())
      ORDER BY horizon DESC LIMIT 1
    )
    OR xid >= pg_snapshot_xmax(pg_current_snapshot())
  )
  ORDER BY id LIMIT 5000
)
