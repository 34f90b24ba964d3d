-- Charges and payments of a year, oldest month first.
SELECT json_agg(json_build_object('month', month, 'charges', charges, 'payments', payments) ORDER BY month) AS months
FROM (
  SELECT date_index                                                 AS month,
         sum(measure_value) FILTER (WHERE measure = 'Charges')      AS charges,
         sum(measure_value) FILTER (WHERE measure = 'Payments')     AS payments
  FROM ih.agg_app_measures
  WHERE frequency = 'Monthly' AND measure IN ('Charges', 'Payments')
  GROUP BY date_index
  ORDER BY date_index DESC
  LIMIT 12
) AS year
