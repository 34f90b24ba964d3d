-- Checks of several limits at one moment, each for itself. Behind `ring` and `coarse`, the two machines as functions of
-- (KEYS, ARGV), and the usual check of both. KEYS the limits, each once. ARGV[1], packed, of each limit: 0 ring or 1
-- coarse, most, window ms, cost, count. ARGV[2]: the time in ms, which only tests give.
-- Reply, packed, of each limit: remaining, next ms, reset ms, now, stamp, admitted, and retry ms and 1 (0 = never).
local asked, raw, placed = ARGV[1], tonumber(ARGV[2]), nil
local values, first
if #KEYS == 1 then values = {redis.pcall('GET', KEYS[1])} else values = redis.call('MGET', unpack(KEYS)) end
if not raw then
  -- Read once for all, because nothing else happens while a script runs: the end of a key minus what is left of it.
  for at = 1, #KEYS do
    if type(values[at]) == 'string' then
      local left = redis.call('PTTL', KEYS[at])
      if left > 0 then raw = redis.call('PEXPIRETIME', KEYS[at]) - left break end
    elseif not values[at] and not first then
      first = at
    end
  end
  if not raw and first then
    local window = read('>I4', asked, first * 17 - 11)
    redis.call('SET', KEYS[first], '', 'PX', window)
    raw, placed = redis.call('PEXPIRETIME', KEYS[first]) - window, first
  end
end

local replies = {}
for at = 1, #KEYS do
  local form, most, window, cost, count = read('>I1I4I4I4I4', asked, at * 17 - 16)
  local key, value, left, soon, full, stamp = KEYS[at], values[at], nil, nil, nil, nil
  if raw and type(value) ~= 'table' then
    left, soon, full, stamp = (form == 0 and usual_ring or usual_coarse)(key, value, most, window, cost * count, raw)
  end
  if left then
    replies[at] = pack('>I4I6I6I6I6I4I6', left, soon, full, raw, stamp, count, 1)
  else
    if at == placed then redis.call('DEL', key) end
    local one = (form == 0 and ring or coarse)({key}, {'consume', most, window, ARGV[2] or '', cost, count})
    if one.err then return one end
    replies[at] = pack('>I4I6I6I6I6I4I6', one[1], one[2], one[3], one[4], one[5], one[6], one[7] + 1)
  end
end
return table.concat(replies)
