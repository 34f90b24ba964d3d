-- Takes keys from under the tag KEYS[1]: ARGV holds each key and the stamp it was seen with. One that was put there
-- again meanwhile stays.
local gone = 0
for i = 1, #ARGV, 2 do
  local stamp = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if stamp and tonumber(stamp) == tonumber(ARGV[i + 1]) then gone = gone + redis.call('ZREM', KEYS[1], ARGV[i]) end
end
return gone
