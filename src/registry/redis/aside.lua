-- Moves aside what stands in the place of a record, if it still is what was looked at. Nothing is told: what gateways know of
-- the app is what its next record is made of.
--
-- KEYS  record, the place aside, changed, due, deadlines
-- ARGV  1 the app   2 the type of what is there   3 its text, if it is one
-- Returns whether it still was.
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' or kind ~= ARGV[2] then
  return 0
end
if kind == 'string' and redis.call('GET', KEYS[1]) ~= ARGV[3] then
  return 0
end
if redis.call('RENAMENX', KEYS[1], KEYS[2]) == 0 then
  return 0
end
for i = 3, 5 do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return 1
