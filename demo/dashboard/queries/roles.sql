-- Roles, and how often they are assigned.
SELECT (SELECT count(*) FROM roles WHERE is_active IS TRUE AND deleted_at IS NULL) AS active,
       count(*)                                                                    AS assignments,
       count(*) FILTER (WHERE is_active IS NOT TRUE)                               AS withdrawn,
       count(DISTINCT user_id)                                                     AS holders
FROM user_roles
