-- Accounts. Only TRUE is active: an unset flag is not.
SELECT count(*)                                                                    AS total,
       count(*) FILTER (WHERE is_active IS TRUE AND deleted_at IS NULL)            AS active,
       count(*) FILTER (WHERE is_active IS NOT TRUE AND deleted_at IS NULL)        AS inactive,
       count(*) FILTER (WHERE deleted_at IS NOT NULL)                              AS deleted,
       count(*) FILTER (WHERE email_verified IS NOT TRUE AND deleted_at IS NULL)   AS unverified
FROM users
