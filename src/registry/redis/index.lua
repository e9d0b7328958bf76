-- Makes the indexes tell of an app what its record tells, if the record still is what was looked at.
--
-- KEYS  record, fleet, changed, due, deadlines
-- ARGV  1 the app   2 the record ('' for none)   3 whether a newer version wrote it: then only that it is there is known
--       4 when it may be idle, in milliseconds from now, if it is awake, else ''   5 its deadline ('' for none)
-- Returns whether it still was.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'string' then
  return 0
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then
  return 0
end
if ARGV[2] == '' then
  for i = 3, 5 do
    redis.call('ZREM', KEYS[i], ARGV[1])
  end
  return 1
end
-- Under a new number, so that gateways that have missed the record read it.
if not redis.call('ZSCORE', KEYS[3], ARGV[1]) then
  redis.call('ZADD', KEYS[3], redis.call('HINCRBY', KEYS[2], 'seq', 1), ARGV[1])
end
if ARGV[3] == '1' then
  return 1
end
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[4], 'NX', now + ARGV[4], ARGV[1])
else
  redis.call('ZREM', KEYS[4], ARGV[1])
end
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[5], ARGV[1])
else
  redis.call('ZREM', KEYS[5], ARGV[1])
end
return 1
