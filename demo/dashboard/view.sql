-- The dashboard of the demo data in one row: what the nine queries beside it say, computed once. The monthly figures,
-- which six of the groups need, are read in one pass instead of ten.
--
-- A column for each group, named as its query; last_refreshed is not one of the metrics, it says of when they are. The
-- unique index is what REFRESH MATERIALIZED VIEW CONCURRENTLY needs: without it every refresh fails.

CREATE MATERIALIZED VIEW ih.practice_dashboard AS
WITH people AS (
  SELECT count(*)                                                                    AS total,
         count(*) FILTER (WHERE is_active IS TRUE AND deleted_at IS NULL)            AS active,
         count(*) FILTER (WHERE is_active IS NOT TRUE AND deleted_at IS NULL)        AS inactive,
         count(*) FILTER (WHERE deleted_at IS NOT NULL)                              AS deleted,
         count(*) FILTER (WHERE email_verified IS NOT TRUE AND deleted_at IS NULL)   AS unverified
  FROM users
), practices_in_use AS (
  SELECT count(DISTINCT practice) AS practices
  FROM organizations AS used, unnest(used.practice_uids) AS practice
  WHERE used.is_active IS TRUE AND used.deleted_at IS NULL
), organization_counts AS (
  SELECT count(*)                                                          AS total,
         count(*) FILTER (WHERE is_active IS TRUE AND deleted_at IS NULL)  AS active,
         (SELECT practices FROM practices_in_use)                          AS practices
  FROM organizations
), role_counts AS (
  SELECT (SELECT count(*) FROM roles WHERE is_active IS TRUE AND deleted_at IS NULL) AS active,
         count(*)                                                                    AS assignments,
         count(*) FILTER (WHERE is_active IS NOT TRUE)                               AS withdrawn,
         count(DISTINCT user_id)                                                     AS holders
  FROM user_roles
), tokens AS (
  SELECT count(*)                                             AS revoked,
         count(*) FILTER (WHERE token_type = 'refresh')       AS refresh,
         count(*) FILTER (WHERE blacklisted_by IS NOT NULL)   AS by_somebody_else,
         to_char(max(blacklisted_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')   AS last
  FROM token_blacklist
), monthly AS MATERIALIZED (
  SELECT measure, date_index, practice_uid, provider_uid, provider_name, measure_value
  FROM ih.agg_app_measures
  WHERE frequency = 'Monthly'
), months AS MATERIALIZED (
  SELECT measure,
         date_index                                                               AS month,
         sum(measure_value)                                                       AS total,
         avg(measure_value)                                                       AS average,
         lag(sum(measure_value)) OVER (PARTITION BY measure ORDER BY date_index)  AS previous
  FROM monthly
  GROUP BY measure, date_index
), last_of_each AS (
  SELECT DISTINCT ON (measure)
         measure, month, total, previous, round(100 * (total - previous) / nullif(previous, 0), 1) AS change_percent
  FROM months
  ORDER BY measure, month DESC
), last_month AS (
  SELECT max(month) AS month FROM months
), visits AS (
  SELECT sum(total) FILTER (WHERE measure = 'Completed Visits')                 AS completed,
         sum(total) FILTER (WHERE measure = 'New Patients')                     AS new_patients,
         sum(total) FILTER (WHERE measure = 'No Shows')                         AS no_shows,
         round(min(average) FILTER (WHERE measure = 'Cancellation Rate'), 2)    AS cancellation_rate
  FROM months
  WHERE month = (SELECT month FROM last_month)
), providers AS (
  SELECT count(DISTINCT provider_uid)   AS total,
         count(DISTINCT practice_uid)   AS practices,
         (SELECT provider_name
          FROM monthly
          WHERE measure = 'Completed Visits' AND provider_uid IS NOT NULL
            AND date_index = (SELECT month FROM last_month)
          ORDER BY measure_value DESC, provider_uid
          LIMIT 1)                      AS most_visits
  FROM monthly
), year AS (
  SELECT month,
         sum(total) FILTER (WHERE measure = 'Charges')    AS charges,
         sum(total) FILTER (WHERE measure = 'Payments')   AS payments
  FROM months
  WHERE measure IN ('Charges', 'Payments')
  GROUP BY month
  ORDER BY month DESC
  LIMIT 12
), trend AS (
  SELECT json_agg(json_build_object('month', month, 'charges', charges, 'payments', payments) ORDER BY month) AS months
  FROM year
)
SELECT (SELECT to_jsonb(people) FROM people)                              AS people,
       (SELECT to_jsonb(organization_counts) FROM organization_counts)    AS organizations,
       (SELECT to_jsonb(role_counts) FROM role_counts)                    AS roles,
       (SELECT to_jsonb(tokens) FROM tokens)                              AS tokens,
       (SELECT to_jsonb(one) - 'measure' FROM last_of_each AS one WHERE measure = 'Charges')    AS charges,
       (SELECT to_jsonb(one) - 'measure' FROM last_of_each AS one WHERE measure = 'Payments')   AS payments,
       (SELECT to_jsonb(visits) FROM visits)                              AS visits,
       (SELECT to_jsonb(providers) FROM providers)                        AS providers,
       (SELECT to_jsonb(trend) FROM trend)                                AS trend,
       now()                                                              AS last_refreshed;

CREATE UNIQUE INDEX practice_dashboard_one_row ON ih.practice_dashboard (last_refreshed);
