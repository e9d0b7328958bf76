-- A gateway ends: nobody need wait for its agreement, and another may lead at once.
--
-- KEYS  fleet
-- ARGV  1 this gateway
redis.call('HDEL', KEYS[1], 'at:' .. ARGV[1])
if redis.call('HGET', KEYS[1], 'leader') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'leader', 'until')
end
return 1
