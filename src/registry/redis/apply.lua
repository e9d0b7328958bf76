-- Replaces the record of an app, if it still is what the caller decided on, and tells everybody.
--
-- What the record becomes is decided in registry/record.rs, by the same pure functions for every registry. Here it is only
-- compared and set: nobody ever writes over what it has not seen.
--
-- KEYS  record, fleet, changed, due, deadlines
-- ARGV  1 the record as the caller knows it ('' for none)   2 what it becomes   3 the app
--       4 when it may be idle, in milliseconds from now, if it is awake, else ''   5 its deadline ('' for none)   6 the channel
-- Returns 1, the sequence number, the time; or 0, the record as it is, the time.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local current = redis.call('GET', KEYS[1])
if (current or '') ~= ARGV[1] then
  return { 0, current or '', now }
end
redis.call('SET', KEYS[1], ARGV[2])
local seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
redis.call('ZADD', KEYS[3], seq, ARGV[3])
if ARGV[4] ~= '' then
  redis.call('ZADD', KEYS[4], now + ARGV[4], ARGV[3])
else
  redis.call('ZREM', KEYS[4], ARGV[3])
end
if ARGV[5] ~= '' then
  redis.call('ZADD', KEYS[5], ARGV[5], ARGV[3])
else
  redis.call('ZREM', KEYS[5], ARGV[3])
end
redis.call('PUBLISH', ARGV[6], 'changed\n' .. seq .. '\n' .. ARGV[3] .. '\n' .. ARGV[2])
return { 1, seq, now }
