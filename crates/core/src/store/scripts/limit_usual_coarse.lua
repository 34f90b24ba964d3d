-- The usual check, one of cost 1 that fits, as limit_usual.lua is for rings: the same bytes and the same reply.
if ARGV[1] == 'consume' and #ARGV == 6 and ARGV[5] == '1' and ARGV[6] == '1' then
  local key, unpack, pack, sub = KEYS[1], struct.unpack, struct.pack, string.sub
  local most, window, raw = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
  local value = redis.pcall('GET', key)
  local size, dead, before, live, total, stamp = 0, 0, 0, 0, 0, nil
  local soon, full, usual = 0, 0, false
  if value == false and most > 0 then
    usual = true
    if not raw then
      redis.call('SET', key, '', 'PX', window)
      raw = redis.call('PEXPIRETIME', key) - window
    end
  elseif type(value) == 'string' and #value > 22 and (#value - 22) % 12 == 0 and sub(value, 1, 4) == 'blc1' then
    local clock, blocked, base = unpack('>I6I6I6', value, 5)
    local newest, left = 0, 1
    size = (#value - 22) / 12
    newest, total = unpack('>I6I6', value, 11 + size * 12)
    if not raw then
      left = redis.call('PTTL', key)
      raw = redis.call('PEXPIRETIME', key) - left
    end
    if left > 0 and blocked == 0 and clock <= raw and newest <= clock + window and total >= base then
      local edge, high = math.max(0, raw - window), size
      while dead < high do
        local middle = dead + high
        middle = (middle - middle % 2) / 2
        if unpack('>I6', value, 23 + middle * 12) > edge then high = middle else dead = middle + 1 end
      end
      before = unpack('>I6', value, 17 + dead * 12)
      live = math.max(0, total - before)
      usual = live < most
      if size > dead and newest >= raw then stamp = newest end
      if usual and live > 0 then
        -- When the oldest that counts is over, and when the newest is.
        local function over(rank)
          local low, top = 0, size - dead
          while low < top do
            local middle = low + top
            middle = (middle - middle % 2) / 2
            if unpack('>I6', value, 29 + (dead + middle) * 12) - before >= rank then top = middle else low = middle + 1 end
          end
          return math.max(0, unpack('>I6', value, 23 + math.min(dead + low, size - 1) * 12) + window - raw)
        end
        soon, full = over(1), over(live)
      end
    end
  end
  if usual then
    local kept = stamp and size - 1 or size
    stamp = stamp or raw + math.ceil(window / 20) - 1
    redis.call('SET', key, 'blc1' .. pack('>I6I6I6', raw, 0, before)
      .. (value and sub(value, 23 + dead * 12, 22 + kept * 12) or '') .. pack('>I6I6', stamp, total + 1),
      'PX', stamp + window - raw)
    return {most - live, soon, full, raw, stamp, 1, 0}
  end
end
