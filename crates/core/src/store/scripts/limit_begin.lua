-- What limit_ring and limit_coarse begin with: the value, the server's time, the arithmetic of a decision.
-- KEYS[1] the limit; KEYS[2], only of a merge, where it is noted that it was done. ARGV: operation, most, window ms, time in
-- ms ('' = the server's; only tests give one), then cost and count of each run (consume, peek), ms (block), cost and stamp
-- or 0 (reward), packed ages (merge).
-- Reply: remaining, next ms, reset ms, now, stamp, then admitted and retry ms (-1 = never) of each run.
local key, op, most, window = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if op == 'reset' then
  redis.call('DEL', key)
  return {most, 0, 0, 0, 0}
end
-- There is nothing to merge, or it was merged before and only the answer was lost.
if KEYS[2] and (ARGV[5] == '' or redis.call('GET', KEYS[2])) then return {most, 0, 0, 0, 0} end
local value = redis.pcall('GET', key)
if type(value) == 'table' then
  if not string.find(value.err, 'WRONGTYPE', 1, true) then return value end
  -- Of another type, so it cannot be a limit of ours.
  if op ~= 'peek' then redis.call('DEL', key) end
  value = false
end

-- TIME is refused inside scripts on some servers; the end of a key minus what is left of it is the same.
local raw, placed = tonumber(ARGV[4]), false
if not raw and value then
  local left = redis.call('PTTL', key)
  if left < 0 then
    redis.call('PEXPIRE', key, window)
    left = window
  end
  raw = redis.call('PEXPIRETIME', key) - left
elseif not raw and op == 'peek' then
  raw = 0
elseif not raw then
  redis.call('SET', key, '', 'PX', window)
  raw, placed = redis.call('PEXPIRETIME', key) - window, true
end

local clock, blocked, healed, stored = 0, 0, false, false
local function u48(at) return (struct.unpack('>I6', value, at)) end

-- The shape of a value of ours: its form, how much it counts at most, its newest stamp. nil = damaged.
local function shape()
  local mark, length = string.sub(value, 1, 4), #value
  if mark == 'blr1' and length >= 18 and (length - 18) % 6 == 0 then
    local size, head = (length - 18) / 6, struct.unpack('>I2', value, 17)
    if size <= 65535 and head < math.max(size, 1) then
      return mark, size, size > 0 and u48(19 + (head + size - 1) % size * 6) or 0
    end
  elseif mark == 'blc1' and length >= 22 and (length - 22) % 12 == 0 then
    local base, sum, newest = u48(17), nil, 0
    sum = u48(length - 5)
    if length > 22 then newest = u48(length - 11) end
    if sum >= base then return mark, sum - base, newest end
  end
end

-- Reads clock and block. Of a value whose times cannot be right returns how much was admitted at most; it counts as
-- admitted at `clock`. Of a value of the other form returns nil and true: it is to be carried over.
local function open(form)
  if not value or string.sub(value, 1, 2) ~= 'bl' then return 0 end
  local mark, count, newest = shape()
  if not mark then
    -- Ours and unreadable: whatever was admitted is over after one window.
    clock, blocked, healed = raw, raw + window, true
    return 0
  end
  clock, blocked = u48(5), u48(11)
  if clock > raw + window then
    -- The clock went back by more than a window. To wait for it could take for ever.
    local left = math.max(0, math.min(blocked - clock, 316224000000))
    clock, blocked = raw, left > 0 and raw + left or 0
    return count
  end
  if newest > clock + (mark == 'blc1' and window or 0) then return count end
  if mark ~= form then return nil, true end
  stored = true
end

-- Set by the form: how much counts, the stamp of the n-th oldest of it, the stamp of what is admitted now.
local live, nth, stamp

local function wait(rank)
  local at = stamp
  if rank <= live then at = nth(rank) end
  return math.max(0, at + window - raw)
end

local function quota()
  local free, held, soon, full = most - live, math.max(0, blocked - raw), 0, 0
  if live > 0 then
    soon, full = wait(math.min(math.max(1, 1 - free), live)), wait(live)
  end
  if held > 0 then
    soon = free > 0 and held or math.max(soon, held)
    return {0, soon, math.max(full, held), raw, stamp}
  end
  return {math.max(free, 0), soon, full, raw, stamp}
end

-- Admits what fits, in order; returns the sum of what was admitted.
local function take(reply)
  local free, held, total = most - live, math.max(0, blocked - raw), 0
  for i = 5, #ARGV, 2 do
    local cost, count, fit, retry = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), 0, 0
    if held == 0 and free >= cost then fit = math.min(count, math.floor(free / cost)) end
    free, total = free - fit * cost, total + fit * cost
    if fit < count then
      if cost > most then retry = -1
      elseif cost > free then retry = math.max(held, wait(cost - free))
      else retry = held end
    end
    reply[#reply + 1] = fit
    reply[#reply + 1] = retry
  end
  return total
end

-- The place that was taken to read the time is given back when nothing was stored. The last thing that happens: what fails
-- before is not noted.
local function done(reply)
  if placed then redis.call('DEL', key) end
  -- limiter::noted_ms.
  if KEYS[2] then redis.call('SET', KEYS[2], '', 'PX', math.min(window + 5000, 3600000)) end
  return reply
end

local function store(bytes, till)
  redis.call('SET', key, bytes, 'PX', math.max(till, blocked) - raw)
  placed = false
end
