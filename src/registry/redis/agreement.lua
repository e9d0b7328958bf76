-- Who of the live gateways has agreed to a stop.
--
-- A gateway is live until it has not been heard of for `gone`; then it is taken out. One that only hangs is not: a stop without
-- its word does not happen.
--
-- KEYS  fleet, record, agreed
-- ARGV  1 the epoch of the stop   2 gone after, ms
-- Returns the record ('' for none), and the live gateways that have not agreed.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local missing = { redis.call('GET', KEYS[2]) or '' }
local fields = redis.call('HGETALL', KEYS[1])
for i = 1, #fields, 2 do
  local gateway = string.match(fields[i], '^at:(.*)$')
  if gateway then
    if tonumber(fields[i + 1]) + ARGV[2] < now then
      redis.call('HDEL', KEYS[1], fields[i])
    elseif redis.call('HGET', KEYS[3], gateway) ~= ARGV[1] then
      table.insert(missing, gateway)
    end
  end
end
return missing
