-- The usual check, one of cost 1 that fits, in about half the time: the same bytes and the same reply as everything below,
-- which also takes whatever is unusual.
if ARGV[1] == 'consume' and #ARGV == 6 and ARGV[5] == '1' and ARGV[6] == '1' then
  local key, unpack, pack, sub = KEYS[1], struct.unpack, struct.pack, string.sub
  local most, window, raw = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
  local value = redis.pcall('GET', key)
  local size, head, dead, newest = 0, 0, 0, 0
  local usual = false
  if value == false and most > 0 then
    usual = true
    if not raw then
      redis.call('SET', key, '', 'PX', window)
      raw = redis.call('PEXPIRETIME', key) - window
    end
  elseif type(value) == 'string' and #value > 18 and (#value - 18) % 6 == 0 and sub(value, 1, 4) == 'blr1' then
    local clock, blocked, left = 0, 0, 1
    clock, blocked, head = unpack('>I6I6I2', value, 5)
    size = (#value - 18) / 6
    if not raw then
      left = redis.call('PTTL', key)
      raw = redis.call('PEXPIRETIME', key) - left
    end
    if left > 0 and blocked == 0 and clock <= raw and head < size and size <= 65535 then
      newest = unpack('>I6', value, 19 + (head + size - 1) % size * 6)
      usual = newest <= clock
      local edge, high = math.max(0, raw - window), size
      while dead < high do
        local middle = dead + high
        middle = (middle - middle % 2) / 2
        if unpack('>I6', value, 19 + (head + middle) % size * 6) > edge then high = middle else dead = middle + 1 end
      end
    end
  end
  local live = size - dead
  if usual and live < most then
    local soon, full, stamp = 0, 0, pack('>I6', raw)
    if live > 0 then
      soon = math.max(0, unpack('>I6', value, 19 + (head + dead) % size * 6) + window - raw)
      full = math.max(0, newest + window - raw)
    end
    if dead == 0 or size > 32 and (live + 1) * 4 < size then
      -- All of it anew, the oldest first, with some room in front.
      local stamps, n = '', live + 1
      if live > 0 then
        local from = (head + dead) % size
        local past = math.min(from + live, size)
        stamps = sub(value, 19 + from * 6, 18 + past * 6) .. sub(value, 19, 18 + (from + live - past) * 6)
      end
      local room = math.max(n, math.min(most, n + (n - n % 4) / 4 + 1)) - n
      redis.call('SET', key, 'blr1' .. pack('>I6I6I2', raw, 0, 0) .. string.rep('\0', room * 6) .. stamps .. stamp,
        'PX', window)
    elseif size <= 32 then
      redis.call('SET', key, 'blr1' .. pack('>I6I6I2', raw, 0, (head + 1) % size) .. sub(value, 19, 18 + head * 6)
        .. stamp .. sub(value, 25 + head * 6), 'PX', window)
    else
      redis.call('SETRANGE', key, 18 + head * 6, stamp)
      redis.call('SETRANGE', key, 4, pack('>I6I6I2', raw, 0, (head + 1) % size))
      redis.call('PEXPIRE', key, window)
    end
    return {most - live, soon, full, raw, raw, 1, 0}
  end
end
