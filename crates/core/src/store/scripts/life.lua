-- What is left of a value's life in ms; -2 when there is none. A lease is none.
if redis.call('GETRANGE', KEYS[1], 0, 2) ~= 'b1v' then return -2 end
return redis.call('PTTL', KEYS[1])
