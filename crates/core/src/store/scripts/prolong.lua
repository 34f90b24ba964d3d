-- Lets a value end ARGV[1] ms from now. A lease keeps its own end: nobody would load until it is over.
if redis.call('GETRANGE', KEYS[1], 0, 2) ~= 'b1v' then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[1])
