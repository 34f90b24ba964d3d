-- Charges of the last month, and how they compare with the month before.
SELECT month,
       total,
       previous,
       round(100 * (total - previous) / nullif(previous, 0), 1) AS change_percent
FROM (
  SELECT date_index                                             AS month,
         sum(measure_value)                                     AS total,
         lag(sum(measure_value)) OVER (ORDER BY date_index)     AS previous
  FROM ih.agg_app_measures
  WHERE frequency = 'Monthly' AND measure = 'Charges'
  GROUP BY date_index
) AS months
ORDER BY month DESC
LIMIT 1
