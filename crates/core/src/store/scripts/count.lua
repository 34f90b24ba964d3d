-- Adds ARGV[1] to the whole number that KEYS[1] holds, or to 0 when it holds no value; a number that begins here lives
-- ARGV[2] ms, any other keeps its end. ARGV[3] is the etag of the new entry. nil = the value is not a whole number, or
-- would be one that JavaScript cannot tell from its neighbour. The same arithmetic as `store/counter.rs`.
local key, ttl = KEYS[1], tonumber(ARGV[2])
local value = redis.pcall('GET', key)
if type(value) == 'table' then
  if not string.find(value.err, 'WRONGTYPE', 1, true) then return value end
  redis.call('DEL', key)
  value = false
end

-- CRC-32, four bits at a time.
local table16 = {
  0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
  0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C
}
local function checksum(bytes)
  local crc = 0xFFFFFFFF
  for i = 1, #bytes do
    crc = bit.bxor(crc, string.byte(bytes, i))
    crc = bit.bxor(bit.rshift(crc, 4), table16[bit.band(crc, 15) + 1])
    crc = bit.bxor(bit.rshift(crc, 4), table16[bit.band(crc, 15) + 1])
  end
  return bit.tohex(bit.bnot(crc))
end

local number, tags, left = 0, '', 0
if value and string.sub(value, 1, 3) == 'b1v' then
  local payload = string.sub(value, 33)
  if #payload > 65536 then return nil end
  if string.sub(value, 8, 15) == checksum(key .. payload) then
    local digits, rest = string.match(payload, '^(%-?%d+)(.*)$')
    if not digits or #digits > 17 or (rest ~= '' and string.byte(rest) ~= 31) then return nil end
    number, tags, left = tonumber(digits), rest, redis.call('PTTL', key)
  end
end
number = number + tonumber(ARGV[1])
if math.abs(number) > 9007199254740991 then return nil end
local payload = string.format('%.0f', number) .. tags
local entry = 'b1v-01.' .. checksum(key .. payload) .. ARGV[3] .. ' ' .. payload
if left > 0 then
  redis.call('SET', key, entry, 'KEEPTTL')
else
  redis.call('SET', key, entry, 'PX', ttl)
end
return number
