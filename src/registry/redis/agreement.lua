-- Who of the live gateways has agreed to a stop.
--
-- A gateway is live until it has not been heard of for `gone`; then it is taken out. One that only hangs is not: a stop without
-- its word does not happen. Nor does one whose word is old: it may have lost the registry since, and see to itself.
--
-- KEYS  fleet, record, agreed
-- ARGV  1 the epoch of the stop   2 gone after, ms   3 a word is old after, ms
-- Returns the record ('' for none), and the live gateways that have not agreed.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local missing = { redis.call('GET', KEYS[2]) or '' }
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local gateway = string.match(fields[i], '^at:(.*)$')
  if gateway then
    local at = tonumber(fields[i + 1]) or 0
    -- Far ahead: the clock was put back. Whoever lives says so again.
    if at + ARGV[2] < now or at > now + ARGV[2] then
      redis.call('HDEL', KEYS[1], fields[i])
    elseif at + ARGV[3] < now or redis.call('HGET', KEYS[3], gateway) ~= ARGV[1] then
      table.insert(missing, gateway)
    end
  end
end
return missing
