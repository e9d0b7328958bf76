-- A gateway lives; it leads if nobody else does.
--
-- The hash has, for each gateway, when it was last heard of (`at:NAME`); who leads (`leader`) and until when (`until`); and the
-- number of the latest change (`seq`). One hash, so that a beat is two commands: they are most of what an idle fleet costs.
--
-- KEYS  fleet
-- ARGV  1 this gateway   2 how long a leader leads, ms   3 1 if it may lead   4 a random word, for a registry that has none
-- Returns the time, the sequence number, whether it leads, the registry's word.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'seq', 'leader', 'until', 'word')
local until_ = tonumber(found[3] or '0') or 0
-- Far ahead: the clock was put back.
local over = until_ <= now or until_ > now + 2 * ARGV[2]
local leads = ARGV[3] == '1' and (found[2] == ARGV[1] or not found[2] or over)
local word = found[4] or ARGV[4]
if leads then
  redis.call('HSET', KEYS[1], 'at:' .. ARGV[1], now, 'word', word, 'leader', ARGV[1], 'until', now + ARGV[2])
else
  redis.call('HSET', KEYS[1], 'at:' .. ARGV[1], now, 'word', word)
end
return { now, tonumber(found[1] or '0') or 0, leads and 1 or 0, word }
