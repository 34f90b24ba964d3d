-- Checks of several limits at one moment, each for itself. Behind `ring` and `coarse`, the two machines as functions of
-- (KEYS, ARGV), and the usual check of both. KEYS the limits, each once. ARGV[1], packed, of each row of equal checks: how
-- many of them, 0 ring or 1 coarse, most, window ms, cost, count. ARGV[2]: the time in ms, which only tests give.
-- Reply, packed: the time, then of each limit a byte and numbers. 1, a ring from which all was taken: remaining, next ms
-- and reset ms. 0, anything else: remaining, next ms, reset ms, now, stamp, admitted, and retry ms and 1 (0 = never).
local asked, raw, placed = ARGV[1], tonumber(ARGV[2]), nil
local values, first
if #KEYS == 1 then values = {redis.pcall('GET', KEYS[1])} else values = call('MGET', unpack(KEYS)) end
if not raw then
  -- Read once for all, because nothing else happens while a script runs: the end of a key minus what is left of it.
  for at = 1, #KEYS do
    if type(values[at]) == 'string' then
      local left = call('PTTL', KEYS[at])
      if left > 0 then raw = call('PEXPIRETIME', KEYS[at]) - left break end
    elseif not values[at] and not first then
      first = at
    end
  end
  if not raw and first then
    -- It is only there to be read, and overwritten or removed below.
    call('SET', KEYS[first], '', 'PX', 60000)
    raw, placed = call('PEXPIRETIME', KEYS[first]) - 60000, first
  end
end
if raw then stamped, anew, how = pack('>I6', raw), pack('>c4I6I8', 'blr1', raw, 0), ARGV[2] and 'PX' or 'PXAT' end

local replies, at, place = {pack('>I6', raw or 0)}, 0, 1
while at < #KEYS do
  local row, form, most, window, cost, count
  row, form, most, window, cost, count, place = read('>I2I1I4I4I4I4', asked, place)
  local total, till = cost * count, raw and string.format('%.0f', ARGV[2] and window or raw + window)
  for next = at + 1, at + row do
    local key, value, left, soon, full, stamp = KEYS[next], values[next], nil, nil, nil, nil
    if raw and type(value) ~= 'table' then
      if form == 0 then
        left, soon, full = usual_ring(key, value, most, window, total, raw, till)
      else
        left, soon, full, stamp = usual_coarse(key, value, most, window, total, raw)
      end
    end
    if stamp then
      replies[next + 1] = pack('>I1I4I6I6I6I6I4I6', 0, left, soon, full, raw, stamp, count, 1)
    elseif left then
      replies[next + 1] = pack('>I1I4I4I4', 1, left, soon, full)
    else
      if next == placed then call('DEL', key) end
      local one = (form == 0 and ring or coarse)({key}, {'consume', most, window, ARGV[2] or '', cost, count})
      if one.err then return one end
      replies[next + 1] = pack('>I1I4I6I6I6I6I4I6', 0, one[1], one[2], one[3], one[4], one[5], one[6], one[7] + 1)
    end
  end
  at = at + row
end
return table.concat(replies)
