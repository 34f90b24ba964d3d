-- Organizations, and the practices that belong to those in use.
SELECT count(*)                                                          AS total,
       count(*) FILTER (WHERE is_active IS TRUE AND deleted_at IS NULL)  AS active,
       (SELECT count(DISTINCT practice)
        FROM organizations AS used, unnest(used.practice_uids) AS practice
        WHERE used.is_active IS TRUE AND used.deleted_at IS NULL)        AS practices
FROM organizations
