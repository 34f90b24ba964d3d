-- A limit whose every admission has its stamp. The machine of limiter/ring.rs over the same bytes:
-- blr1 | clock u48 | blocked u48 | head u16 | stamps u48, oldest at head, 0 = empty.
local count, other = open('blr1')
if other then
  -- Each admission at the end of its bucket; the clock may not stay behind the newest of these ends.
  local last, left, parts = (#value - 22) / 12, most, {}
  for at = last - 1, 0, -1 do
    local stop, sum = struct.unpack('>I6I6', value, 23 + at * 12)
    local n = math.min(left, math.max(0, sum - struct.unpack('>I6', value, 17 + at * 12)))
    if at == last - 1 then clock = math.max(clock, stop) end
    left, parts[at + 1] = left - n, string.rep(struct.pack('>I6', stop), n)
  end
  value = string.rep('\0', 18) .. table.concat(parts)
elseif count then
  value = string.rep('\0', 18) .. string.rep(struct.pack('>I6', clock), math.min(count, most))
end
local head, size = struct.unpack('>I2', value, 17), (#value - 18) / 6
local now = math.max(raw, clock)
local edge = math.max(0, now - window)
stamp = now

local function slot(at) return (struct.unpack('>I6', value, 19 + (head + at) % size * 6)) end

-- When the oldest counts, all of them do.
local dead, high = 0, size
if size > 0 and slot(0) > edge then high = 0 end
while dead < high do
  local middle = math.floor((dead + high) / 2)
  if slot(middle) > edge then high = middle else dead = middle + 1 end
end
live = size - dead
function nth(rank) return slot(dead + rank - 1) end

local reply, total
if op == 'consume' or op == 'peek' then
  reply = quota()
  total = take(reply)
  if op == 'peek' or total == 0 and not healed then return done(reply) end
  if stored and total <= dead and live + total > 128 and (live + total) * 4 >= size then
    local bytes, first = struct.pack('>I6', now), math.min(total, size - head)
    redis.call('SETRANGE', key, 18 + head * 6, string.rep(bytes, first))
    if total > first then redis.call('SETRANGE', key, 18, string.rep(bytes, total - first)) end
    redis.call('SETRANGE', key, 4, struct.pack('>I6I6I2', now, blocked, (head + total) % size))
    redis.call('PEXPIRE', key, now + window - raw)
    return reply
  end
end

-- The stamps that count, oldest first.
local function counted()
  if live == 0 then return '' end
  local from = (head + dead) % size
  local past = math.min(from + live, size)
  return string.sub(value, 19 + from * 6, 18 + past * 6) .. string.sub(value, 19, 18 + (from + live - past) * 6)
end

-- Stores these stamps, many of them with some room in front.
local function write(stamps)
  live = #stamps / 6
  size = live > 128 and math.max(live, math.min(most, live + math.floor(live / 4) + 1)) or live
  head, dead = 0, size - live
  value = 'blr1' .. struct.pack('>I6I6I2', now, blocked, 0) .. string.rep('\0', dead * 6) .. stamps
  store(value, now + window)
end

if total then
  write(counted() .. string.rep(struct.pack('>I6', now), total))
  return reply
end

-- The first of `stamps` at or after `from` that is newer than `at`.
local function newer(stamps, at, from)
  local low, top = 0, #stamps / 6
  while low < top do
    local middle = math.floor((low + top) / 2)
    if struct.unpack('>I6', stamps, middle * 6 + 1) > at then top = middle else low = middle + 1 end
  end
  return math.max(low, from)
end

local stamps, changed = counted(), false
if op == 'reward' then
  local cost, at = tonumber(ARGV[5]), tonumber(ARGV[6])
  local from, past = 0, live
  if at > 0 then from, past = newer(stamps, at - 1, 0), newer(stamps, at, 0) end
  from = math.max(from, past - cost)
  if from < past then
    stamps, changed = string.sub(stamps, 1, from * 6) .. string.sub(stamps, past * 6 + 1), true
  end
elseif op == 'merge' then
  local keep, parts, from = math.max(most, live), {}, 0
  for i = 1, #ARGV[5], 8 do
    local age, n = struct.unpack('>I4I4', ARGV[5], i)
    local at = now - age
    if at > edge and n > 0 then
      local past = newer(stamps, at, from)
      parts[#parts + 1] = string.sub(stamps, from * 6 + 1, past * 6)
      parts[#parts + 1] = string.rep(struct.pack('>I6', at), math.min(n, keep))
      from, changed = past, true
    end
  end
  stamps = table.concat(parts) .. string.sub(stamps, from * 6 + 1)
  if #stamps > keep * 6 then stamps = string.sub(stamps, #stamps - keep * 6 + 1) end
elseif op == 'block' then
  local before, ms = blocked, tonumber(ARGV[5])
  blocked = ms > 0 and math.max(blocked, raw + ms) or 0
  changed = blocked ~= before
end
if changed or healed then write(stamps) end
return done(quota())
