-- Revoked tokens, whatever their expiry says.
SELECT count(*)                                             AS revoked,
       count(*) FILTER (WHERE token_type = 'refresh')       AS refresh,
       count(*) FILTER (WHERE blacklisted_by IS NOT NULL)   AS by_somebody_else,
       to_char(max(blacklisted_at) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')   AS last
FROM token_blacklist
