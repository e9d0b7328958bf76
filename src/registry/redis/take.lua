-- The budget of one account at a provider, shared by all gateways that use it: a token bucket with a queue, as in
-- src/provider/api/budget/bucket.rs, but by the clock of Redis, and with at most one place for each gateway and priority.
--
-- KEYS[1], a hash: tokens, counted  the bucket, and up to when it is counted; `counted` lies ahead during a pause
--                  resumes          when the latest pause ends
--                  passed, owed     see below
--                  g:GATEWAY        "asked per_minute burst reserve": when it asked last, and what it believes in
--                  w:PRIORITY:GATEWAY  "due lapses": its place in the queue
-- All times are milliseconds. One token is 60000, and a millisecond refills per_minute: no arithmetic rounds.
--
-- ARGV: take GATEWAY PRIORITY SLACK PER_MINUTE BURST RESERVE  -> {0, 0}, or {milliseconds to come back in, gateways waiting}
--       back            a token was taken and not used        -> {0, 0}
--       pause DURATION  the provider wants no calls           -> {0, 0}
--
-- Limits. Gateways may disagree while a new configuration is rolled out: of all that asked lately, the strictest count.
-- More than burst + per_minute never go in a minute.
--
-- Turns. Whoever cannot go gets a place and is told when there will be a token for it; the token is kept for it, as nobody
-- goes for whom there is not one more than for all before it. Having gone, a gateway queues behind those that wait already,
-- so however many callers wait within one, each gateway has its turn. A place lapses if nobody comes back for it.
-- Wakes (priority 0) go first and alone may have the last RESERVE tokens; among the others the earliest due goes first.
-- Nobody starves: once PATIENCE wakes in a row passed somebody overdue, the next one that is overdue and asks is owed the
-- next token, be it of the reserve.

local TOKEN, PATIENCE = 60000, 4
local LATELY, GRACE, HOUR = 600000, 1000, 3600000

local key, op = KEYS[1], ARGV[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Not tostring, which rounds large numbers.
local function text(n) return string.format('%.0f', n) end

-- The whole numbers in a text, nothing else.
local function numbers(s)
  local found = {}
  for n in string.gmatch(s or '', '%d+') do found[#found + 1] = tonumber(n) end
  return found
end

local fields, flat = {}, redis.call('HGETALL', key)
for i = 1, #flat, 2 do fields[flat[i]] = flat[i + 1] end
local function number(field) return numbers(fields[field])[1] end

local resumes = math.min(number('resumes') or 0, now + HOUR)
local tokens, counted = number('tokens'), number('counted') or now
-- Ahead without a pause: the clock was put back.
if counted > now then counted = math.max(now, resumes) end
local passed, owed = number('passed') or 0, fields.owed
if owed and not fields[owed] then owed = nil end

local function save(missing)
  redis.call('HSET', key, 'counted', text(counted), 'resumes', text(resumes), 'passed', text(passed))
  if tokens then redis.call('HSET', key, 'tokens', text(tokens)) end
  if owed then redis.call('HSET', key, 'owed', owed) else redis.call('HDEL', key, 'owed') end
  -- Not before a bucket that is made anew would be no fuller.
  redis.call('PEXPIRE', key, text(counted - now + missing + HOUR))
end

if op == 'pause' then
  resumes = math.max(resumes, now + math.min(tonumber(ARGV[2]), HOUR))
  -- After it the bucket is empty: the provider has just said that we were too fast.
  tokens, counted, passed = 0, math.max(counted, resumes), 0
  save(HOUR)
  return { 0, 0 }
end

if op == 'back' then
  -- What was taken before a pause does not count after it. That the bucket is not overfull, the next `take` sees to.
  if tokens and resumes <= now then
    tokens = tokens + TOKEN
    save(HOUR)
  end
  return { 0, 0 }
end

local gateway, priority, slack = ARGV[2], ARGV[3], tonumber(ARGV[4])
local per_minute, burst, reserve = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
redis.call('HSET', key, 'g:' .. gateway, table.concat({ text(now), ARGV[5], ARGV[6], ARGV[7] }, ' '))

local mine, places = nil, {}
for field, value in pairs(fields) do
  local n, kind = numbers(value), string.sub(field, 1, 2)
  if kind == 'g:' and field ~= 'g:' .. gateway then
    if #n == 4 and n[1] > now - LATELY and n[1] <= now + LATELY then
      per_minute, burst, reserve = math.min(per_minute, n[2]), math.min(burst, n[3]), math.max(reserve, n[4])
    else
      redis.call('HDEL', key, field)
    end
  elseif kind == 'w:' then
    if #n == 2 and n[2] > now and n[2] <= now + 24 * HOUR then
      local of, who = string.match(field, '^w:(%d):(.*)$')
      local place = { field = field, due = n[1], wake = of == '0', gateway = who }
      places[#places + 1] = place
      if of == priority and who == gateway then mine = place end
    else
      redis.call('HDEL', key, field)
      if owed == field then owed = nil end
    end
  end
end
if not mine then
  mine = { field = 'w:' .. priority .. ':' .. gateway, due = now + slack, wake = priority == '0', gateway = gateway }
  places[#places + 1] = mine
end
per_minute, burst = math.max(per_minute, 1), math.max(burst, 1)
reserve = math.min(reserve, burst - 1)

local full = burst * TOKEN
tokens = math.min(full, (tokens or full) + math.max(0, now - counted) * per_minute)
counted = math.max(counted, now)

if not owed and passed >= PATIENCE and not mine.wake and mine.due <= now then owed = mine.field end

local function before(a, b)
  if (a.field == owed) ~= (b.field == owed) then return a.field == owed end
  if a.wake ~= b.wake then return a.wake end
  if a.due ~= b.due then return a.due < b.due end
  return a.field < b.field
end

local ahead, overdue, sharers, counts = 0, false, 0, {}
for _, place in ipairs(places) do
  if place ~= mine and before(place, mine) then ahead = ahead + 1 end
  if not place.wake and place.due <= now then overdue = true end
  -- A wake shares with other wakes.
  if not counts[place.gateway] and (place.wake or not mine.wake) then
    counts[place.gateway], sharers = true, sharers + 1
  end
end

local spared = (mine.wake or mine.field == owed) and 0 or reserve
local lacks = math.max(0, (ahead + 1 + spared) * TOKEN - tokens)
local wait = math.max(0, counted - now) + math.ceil(lacks / per_minute)
if wait == 0 then
  tokens = tokens - TOKEN
  redis.call('HDEL', key, mine.field)
  if not mine.wake then passed = 0 elseif overdue then passed = passed + 1 end
  if mine.field == owed then owed = nil end
else
  redis.call('HSET', key, mine.field, text(mine.due) .. ' ' .. text(now + wait + GRACE))
end
save(math.ceil((full - tokens) / per_minute))
return { wait, sharers }
