-- The usual check of buckets, as `usual_ring` is for stamps.
local function usual_coarse(key, value, most, window, total, raw)
  local size, dead, before, live, sum, stamp = 0, 0, 0, 0, 0, nil
  local soon, full = 0, 0
  if value then
    if #value <= 22 or (#value - 22) % 12 ~= 0 then return end
    local mark, clock, blocked, base = read('>c4I6I6I6', value)
    size = (#value - 22) / 12
    local newest
    newest, sum = read('>I6I6', value, 11 + size * 12)
    if mark ~= 'blc1' or blocked ~= 0 or clock > raw or newest > clock + window or sum < base then return end
    local edge, high = raw > window and raw - window or 0, size
    while dead < high do
      local middle = dead + high
      middle = (middle - middle % 2) / 2
      if read('>I6', value, 23 + middle * 12) > edge then high = middle else dead = middle + 1 end
    end
    before = read('>I6', value, 17 + dead * 12)
    live = math.max(0, sum - before)
    if size > dead and newest >= raw then stamp = newest end
  end
  if live + total > most then return end
  if live > 0 then
    -- When the oldest that counts is over, and when the newest is.
    local function over(rank)
      local low, top = 0, size - dead
      while low < top do
        local middle = low + top
        middle = (middle - middle % 2) / 2
        if read('>I6', value, 29 + (dead + middle) * 12) - before >= rank then top = middle else low = middle + 1 end
      end
      return math.max(0, read('>I6', value, 23 + math.min(dead + low, size - 1) * 12) + window - raw)
    end
    soon, full = over(1), over(live)
  end
  local kept = stamp and size - 1 or size
  stamp = stamp or raw + math.ceil(window / 20) - 1
  call('SET', key, 'blc1' .. pack('>I6I6I6', raw, 0, before)
    .. (value and sub(value, 23 + dead * 12, 22 + kept * 12) or '') .. pack('>I6I6', stamp, sum + total),
    'PX', stamp + window - raw)
  return most - live, soon, full, stamp
end
