-- The usual check of a ring, one that fits entirely, in a fraction of the time that the machine takes: the same bytes. Given
-- the value (false = none), it answers remaining, next ms and reset ms as found, and what is to be stored (nothing where it
-- wrote in place); nothing at all when it is unusual.
local call, read, pack, sub, rep, min = redis.call, struct.unpack, struct.pack, string.sub, string.rep, math.min
-- Of this moment: the stamp, and the beginning of a ring that is written anew.
local stamped, anew
-- 'blr1' as a number. In a ring, what is blocked and the head are read as one number: below 65536 nothing is blocked.
local RING = 1651274289
-- A ring of so many stamps is always written anew.
local SMALL = 128

-- `edge`: nothing up to it counts any more. `added`: the stamps of this check, which is not larger than the limit.
local function usual_ring(key, value, most, window, total, raw, edge, added)
  if not value then
    local room = total > SMALL and min(most, total + (total - total % 4) / 4 + 1) - total or 0
    return most, 0, 0, anew .. rep('\0', room * 6) .. added
  end
  local size = (#value - 18) / 6
  if size < 1 or size > 65535 or size % 1 ~= 0 then return end
  local mark, clock, head, oldest = read('>I4I6I8I6', value)
  if mark ~= RING or head >= size or clock > raw then return end
  local newest, dead = nil, 0
  if head == 0 then
    newest = read('>I6', value, 13 + size * 6)
  else
    newest, oldest = read('>I6', value, 13 + head * 6), read('>I6', value, 19 + head * 6)
  end
  if newest > clock then return end
  if oldest <= edge then
    local high = size
    while dead < high do
      local middle = dead + high
      middle = (middle - middle % 2) / 2
      if read('>I6', value, 19 + (head + middle) % size * 6) > edge then high = middle else dead = middle + 1 end
    end
    if dead < size then oldest = read('>I6', value, 19 + (head + dead) % size * 6) end
  end
  local live = size - dead
  local n = live + total
  if n > most then return end
  local soon, full = 0, 0
  if live > 0 then
    soon, full = oldest + window - raw, newest + window - raw
    if soon > window then return end
    if full < 0 then full = 0 end
  end
  if n > SMALL and dead >= total and n * 4 >= size then
    if total > 1 then return end
    call('SETRANGE', key, 18 + head * 6, stamped)
    call('SETRANGE', key, 4, pack('>I6I6I2', raw, 0, (head + 1) % size))
    call('PEXPIRE', key, window)
    return most - live, soon, full
  end
  -- All of it anew, the oldest first; a larger one with some room in front.
  local stamps = ''
  if head + dead == 0 then
    stamps = sub(value, 19)
  elseif live > 0 then
    local from = (head + dead) % size
    stamps = sub(value, 19 + from * 6, 18 + min(from + live, size) * 6)
    if from + live > size then stamps = stamps .. sub(value, 19, 18 + (from + live - size) * 6) end
  end
  if n <= SMALL then return most - live, soon, full, anew .. stamps .. added end
  local room = math.max(n, min(most, n + (n - n % 4) / 4 + 1)) - n
  return most - live, soon, full, anew .. rep('\0', room * 6) .. stamps .. added
end
