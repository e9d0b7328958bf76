-- Takes the record of an app out, or gives it to the app under its new name.
--
-- KEYS  record, fleet, changed, due, deadlines, [the record under the new name]
-- ARGV  1 the app   2 the channel   [3 its new name]
-- Returns whether there was a record.
local record = redis.call('GET', KEYS[1])
if not record then
  return 0
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[3], ARGV[1])
for i = 4, 5 do
  local score = redis.call('ZSCORE', KEYS[i], ARGV[1])
  if score then
    redis.call('ZREM', KEYS[i], ARGV[1])
    if ARGV[3] then
      redis.call('ZADD', KEYS[i], score, ARGV[3])
    end
  end
end
local seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
redis.call('PUBLISH', ARGV[2], 'forgotten\n' .. seq .. '\n' .. ARGV[1])
if ARGV[3] then
  redis.call('SET', KEYS[6], record)
  seq = redis.call('HINCRBY', KEYS[2], 'seq', 1)
  redis.call('ZADD', KEYS[3], seq, ARGV[3])
  redis.call('PUBLISH', ARGV[2], 'changed\n' .. seq .. '\n' .. ARGV[3] .. '\n' .. record)
end
return 1
