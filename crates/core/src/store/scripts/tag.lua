-- Puts the key ARGV[1] under the tag KEYS[1] for ARGV[2] ms, and takes from under it what has ended. Its stamp is its
-- end, finer by ARGV[3], so that whoever saw it before can tell that it was put there again.
local tag, ttl = KEYS[1], tonumber(ARGV[2])
local size = redis.pcall('ZCARD', tag)
if type(size) == 'table' then
  if not string.find(size.err, 'WRONGTYPE', 1, true) then return size end
  redis.call('DEL', tag)
end
redis.call('ZADD', tag, 0, ARGV[1])
if redis.call('PTTL', tag) < ttl then redis.call('PEXPIRE', tag, ttl) end
-- TIME is refused inside scripts on some servers; the end of a key minus what is left of it is the same.
local now = redis.call('PEXPIRETIME', tag) - redis.call('PTTL', tag)
redis.call('ZADD', tag, (now + ttl) * 4096 + tonumber(ARGV[3]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', tag, '-inf', string.format('%.0f', now * 4096))
return 1
