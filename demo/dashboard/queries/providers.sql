-- Who has figures, and who had most visits in the last month.
SELECT count(DISTINCT provider_uid)   AS total,
       count(DISTINCT practice_uid)   AS practices,
       (SELECT provider_name
        FROM ih.agg_app_measures AS latest
        WHERE frequency = 'Monthly' AND measure = 'Completed Visits' AND provider_uid IS NOT NULL
          AND date_index = (SELECT max(date_index) FROM ih.agg_app_measures WHERE frequency = 'Monthly')
        ORDER BY measure_value DESC, provider_uid
        LIMIT 1)                      AS most_visits
FROM ih.agg_app_measures
WHERE frequency = 'Monthly'
