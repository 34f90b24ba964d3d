-- Checks of several limits at one moment, each for itself. Behind `ring` and `coarse`, the two machines as functions of
-- (KEYS, ARGV), and the usual check of both. KEYS the limits, each once. ARGV[1], packed: whether this server knows MSETEX,
-- then of each row of equal checks: how many of them, 0 ring or 1 coarse, most, window ms, cost, count. ARGV[2]: the time in
-- ms, which only tests give.
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
if raw then stamped, anew = pack('>I6', raw), pack('>c4I6I8', 'blr1', raw, 0) end

local replies, usual, known = {pack('>I6', raw or 0)}, {}, 0
-- Packs the usual answers so far, four numbers each. All of them at once: a call costs more than a number.
local function packed()
  if known > 0 then replies[#replies + 1] = pack(rep('>I1I4I4I4', known / 4), unpack(usual, 1, known)) end
  known = 0
end

local at, many, place = 0, read('>I1', asked)
while at < #KEYS do
  local row, form, most, window, cost, count
  row, form, most, window, cost, count, place = read('>I2I1I4I4I4I4', asked, place)
  local total, edge, added = cost * count, nil, nil
  if raw then edge = raw > window and raw - window or 0 end
  -- More than the limit is never usual, and would be a text of any length.
  if raw and form == 0 and total <= most then added = rep(stamped, total) end
  -- What is stored anew: the command, how many, then a key and a value each.
  local writes, last = {'MSETEX', 0}, 2
  for next = at + 1, at + row do
    local key, value, left, soon, full, more = KEYS[next], values[next], nil, nil, nil, nil
    if raw and type(value) ~= 'table' then
      if added then
        left, soon, full, more = usual_ring(key, value, most, window, total, raw, edge, added)
      elseif form == 1 then
        left, soon, full, more = usual_coarse(key, value, most, window, total, raw)
      end
    end
    if left and form == 0 then
      usual[known + 1], usual[known + 2], usual[known + 3], usual[known + 4], known = 1, left, soon, full, known + 4
      if more then writes[last + 1], writes[last + 2], last = key, more, last + 2 end
    elseif left then
      replies[#replies + 1] = pack('>I1I4I6I6I6I6I4I6', 0, left, soon, full, raw, more, count, 1)
    else
      packed()
      if next == placed then call('DEL', key) end
      local one = (form == 0 and ring or coarse)({key}, {'consume', most, window, ARGV[2] or '', cost, count})
      if one.err then return one end
      replies[#replies + 1] = pack('>I1I4I6I6I6I6I4I6', 0, one[1], one[2], one[3], one[4], one[5], one[6], one[7] + 1)
    end
  end
  packed()
  if last > 2 then
    local how, till = ARGV[2] and 'PX' or 'PXAT', string.format('%.0f', ARGV[2] and window or raw + window)
    local done
    if many == 1 and last > 4 then
      writes[2], writes[last + 1], writes[last + 2] = last / 2 - 1, how, till
      done = redis.pcall(unpack(writes))
    end
    -- Not known here, or not allowed: it is not tried again.
    if not done or type(done) == 'table' and done.err then
      many = 0
      for next = 3, last, 2 do call('SET', writes[next], writes[next + 1], how, till) end
    end
  end
  at = at + row
end
return table.concat(replies)
