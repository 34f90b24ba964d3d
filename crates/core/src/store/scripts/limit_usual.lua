-- The usual check of a ring, one that fits entirely, in a fraction of the time that the machine takes: the same bytes. Given
-- the value (false = none), it answers remaining, next ms and reset ms as found, and the stamp; nothing when it is unusual.
local read, pack, sub, rep = struct.unpack, struct.pack, string.sub, string.rep

local function usual_ring(key, value, most, window, total, raw)
  local size, head, dead, newest, edge = 0, 0, 0, 0, math.max(0, raw - window)
  if value then
    if #value <= 18 or (#value - 18) % 6 ~= 0 then return end
    local mark, clock, blocked
    mark, clock, blocked, head = read('>c4I6I6I2', value)
    size = (#value - 18) / 6
    if mark ~= 'blr1' or blocked ~= 0 or clock > raw or head >= size or size > 65535 then return end
    newest = read('>I6', value, 19 + (head + size - 1) % size * 6)
    if newest > clock then return end
    local high = size
    while dead < high do
      local middle = dead + high
      middle = (middle - middle % 2) / 2
      if read('>I6', value, 19 + (head + middle) % size * 6) > edge then high = middle else dead = middle + 1 end
    end
  end
  local live = size - dead
  local n = live + total
  if n > most then return end
  local soon, full, stamp = 0, 0, pack('>I6', raw)
  if live > 0 then
    soon = math.max(0, read('>I6', value, 19 + (head + dead) % size * 6) + window - raw)
    full = math.max(0, newest + window - raw)
  end
  if dead < total or size > 32 and n * 4 < size then
    -- All of it anew, the oldest first, with some room in front.
    local stamps = ''
    if live > 0 then
      local from = (head + dead) % size
      local past = math.min(from + live, size)
      stamps = sub(value, 19 + from * 6, 18 + past * 6) .. sub(value, 19, 18 + (from + live - past) * 6)
    end
    local room = math.max(n, math.min(most, n + (n - n % 4) / 4 + 1)) - n
    redis.call('SET', key, 'blr1' .. pack('>I6I6I2', raw, 0, 0) .. rep('\0', room * 6) .. stamps .. rep(stamp, total),
      'PX', window)
  elseif total > 1 then
    return
  elseif size <= 32 then
    redis.call('SET', key, 'blr1' .. pack('>I6I6I2', raw, 0, (head + 1) % size) .. sub(value, 19, 18 + head * 6)
      .. stamp .. sub(value, 25 + head * 6), 'PX', window)
  else
    redis.call('SETRANGE', key, 18 + head * 6, stamp)
    redis.call('SETRANGE', key, 4, pack('>I6I6I2', raw, 0, (head + 1) % size))
    redis.call('PEXPIRE', key, window)
  end
  return most - live, soon, full, raw
end
