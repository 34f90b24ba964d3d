-- Stores ARGV[2] for ARGV[3] ms only while the key holds an entry whose header is exactly ARGV[1]: the same version.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return 1
end
return 0
