-- What happened in the last month.
SELECT sum(measure_value) FILTER (WHERE measure = 'Completed Visits')              AS completed,
       sum(measure_value) FILTER (WHERE measure = 'New Patients')                  AS new_patients,
       sum(measure_value) FILTER (WHERE measure = 'No Shows')                      AS no_shows,
       round(avg(measure_value) FILTER (WHERE measure = 'Cancellation Rate'), 2)   AS cancellation_rate
FROM ih.agg_app_measures
WHERE frequency = 'Monthly'
  AND date_index = (SELECT max(date_index) FROM ih.agg_app_measures WHERE frequency = 'Monthly')
