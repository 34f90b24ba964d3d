-- One check of several limits that lie in one slot: it is charged to all of them, or to none.
-- Behind `ring` and `coarse`, the two machines as functions of (KEYS, ARGV). KEYS the limits, each once. ARGV, four per
-- limit: ring or coarse, most, window ms, cost; then the time in ms, which only tests give. Reply: seven numbers per
-- limit, those of a peek when one denies.
local machines, time = {ring = ring, coarse = coarse}, ARGV[#KEYS * 4 + 1] or ''

local function ask(op, at)
  local from = (at - 1) * 4
  return machines[ARGV[from + 1]]({KEYS[at]}, {op, ARGV[from + 2], ARGV[from + 3], time, ARGV[from + 4], 1})
end

local reply, op = {}, 'consume'
for at = 1, #KEYS do
  local one = ask('peek', at)
  if one.err then return one end
  if one[6] == 0 then op = 'peek' end
end
for at = 1, #KEYS do
  local one = ask(op, at)
  if one.err then return one end
  for place = 1, 7 do reply[#reply + 1] = one[place] end
end
return reply
