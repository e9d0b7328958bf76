-- A gateway ends: another may lead at once; and once it is gone altogether, nobody need wait for its agreement.
--
-- KEYS  fleet
-- ARGV  1 this gateway   2 1 if it is gone altogether
if ARGV[2] == '1' then
  redis.call('HDEL', KEYS[1], 'at:' .. ARGV[1])
end
if redis.call('HGET', KEYS[1], 'leader') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'leader', 'until')
end
return 1
