-- Takes fields out of the fleet, if all of them still have the values that were looked at.
--
-- KEYS  fleet
-- ARGV  field, value, field, value ...
-- Returns whether they had.
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
    return 0
  end
end
for i = 1, #ARGV, 2 do
  redis.call('HDEL', KEYS[1], ARGV[i])
end
return 1
