-- A limit whose admissions share the stamp of their bucket's end. The machine of limiter/coarse.rs over the same bytes:
-- blc1 | clock u48 | blocked u48 | base u48 | (end u48, sum u48) ..., sum = base + all up to this bucket.
local count, other = open('blc1')
if other then
  -- What counts, in buckets that end at multiples of their width.
  local first, slots, wide = struct.unpack('>I2', value, 17), (#value - 18) / 6, math.ceil(window / 20)
  local since, last, total, parts = math.max(0, clock - window), -1, 0, {}
  for at = 0, slots - 1 do
    local one = struct.unpack('>I6', value, 19 + (first + at) % slots * 6)
    if one > since then
      local stop = (math.floor(one / wide) + 1) * wide - 1
      total = total + 1
      if stop ~= last then parts[#parts + 1], last = {}, stop end
      parts[#parts] = struct.pack('>I6I6', stop, total)
    end
  end
  value = string.rep('\0', 22) .. table.concat(parts)
elseif count then
  value = string.rep('\0', 22)
  if count > 0 then value = value .. struct.pack('>I6I6', clock, count) end
end
local now = math.max(raw, clock)
local edge, width = math.max(0, now - window), math.ceil(window / 20)
local size, dead, before

local function bucket_end(at) return (struct.unpack('>I6', value, 23 + at * 12)) end
-- The sum of the first `n` buckets and of all that were before them.
local function sum(n) return (struct.unpack('>I6', value, 17 + n * 12)) end

local function look()
  size, dead = (#value - 22) / 12, 0
  local high = size
  while dead < high do
    local middle = math.floor((dead + high) / 2)
    if bucket_end(middle) > edge then high = middle else dead = middle + 1 end
  end
  before = sum(dead)
  live = math.max(0, sum(size) - before)
  stamp = now + width - 1
  if size > dead and bucket_end(size - 1) >= now then stamp = bucket_end(size - 1) end
end

function nth(rank)
  local low, high = 0, size - dead
  while low < high do
    local middle = math.floor((low + high) / 2)
    if sum(dead + middle + 1) - before >= rank then high = middle else low = middle + 1 end
  end
  return bucket_end(math.min(dead + low, size - 1))
end

look()
if op == 'consume' then
  local reply = quota()
  local total = take(reply)
  if total == 0 and not healed then return done(reply) end
  local kept, bytes, newest = size, '', now
  if total > 0 then
    newest = stamp
    if size > dead and bucket_end(size - 1) >= now then kept = size - 1 end
    bytes = struct.pack('>I6I6', stamp, sum(size) + total)
  end
  store('blc1' .. struct.pack('>I6I6I6', now, blocked, before)
    .. string.sub(value, 23 + dead * 12, 22 + kept * 12) .. bytes, newest + window)
  return reply
end

if op == 'peek' then
  local reply = quota()
  take(reply)
  return reply
end

-- The rare ones: the buckets as a table of {end, count}.
local all, changed = {}, false
for at = dead, size - 1 do
  all[#all + 1] = {bucket_end(at), math.max(0, sum(at + 1) - sum(at))}
end
if op == 'reward' then
  local cost, only = tonumber(ARGV[5]), tonumber(ARGV[6])
  local left = cost
  for at = #all, 1, -1 do
    if only == 0 or all[at][1] == only then
      local back = math.min(left, all[at][2])
      all[at][2], left = all[at][2] - back, left - back
    end
    if all[at][2] == 0 then table.remove(all, at) end
  end
  changed = left < cost
elseif op == 'merge' then
  for i = 1, #ARGV[5], 8 do
    local age, n = struct.unpack('>I4I4', ARGV[5], i)
    local at, low, high = now - age, 0, #all
    if at > edge and n > 0 then
      while low < high do
        local middle = math.floor((low + high) / 2)
        if all[middle + 1][1] >= at then high = middle else low = middle + 1 end
      end
      local found = all[low + 1]
      if found and found[1] - at < width then found[2] = found[2] + n
      else table.insert(all, low + 1, {at + width - 1, n}) end
      changed = true
    end
  end
elseif op == 'block' then
  local before, ms = blocked, tonumber(ARGV[5])
  blocked = ms > 0 and math.max(blocked, raw + ms) or 0
  changed = blocked ~= before
end
if changed or healed then
  local parts, total = {'blc1', struct.pack('>I6I6I6', now, blocked, 0)}, 0
  for _, one in ipairs(all) do
    total = total + one[2]
    parts[#parts + 1] = struct.pack('>I6I6', one[1], total)
  end
  value = table.concat(parts)
  look()
  store(value, math.max(now, #all > 0 and all[#all][1] or 0) + window)
end
return done(quota())
