/**
 * The one script that changes anything: it carries out what a process asks for, in order, and grants whoever fits.
 * `throttle.ts` decides in the same way for one process; where this does as that does, it says no more about it.
 *
 * Instants and spans are whole microseconds of the server's clock, since it is the one clock that all agree on. An id
 * is `hub.instance.serial`; all but the last part is its owner, and what comes before the first dot tells its channel.
 *
 * state   hash: `at` the latest instant, `ticket` the last one given out, `capacity`, `period` and `burst` (capacity -1:
 *         no rate), `tokens` at `since`, `paused` until, `spent` in all since `born`, `queued` cost, `life` the
 *         latest expiry of anything, and for whom (`head`) and for when (`due`) a timer was last asked for.
 * queue   sorted set of ids by ticket: an instant, made unique, so that even those who come back after the loss of
 *         all data come back in their old order.
 * leases  sorted set of ids by expiry.
 * owners  sorted set of those who have somebody in the queue, by expiry.
 * items   hash by id: `cost concurrency` of a waiter, `slot granted cost spent` of a lease.
 * slots   bitmap of the slot numbers that are taken.
 */
export const STEP = /* lua */ `
local STATE, QUEUE, LEASES, OWNERS, ITEMS, SLOTS = unpack(KEYS)
local owner, ttl, configures, told, clock = ARGV[1], tonumber(ARGV[2]), ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local call, format, floor, ceil, min, max = redis.call, string.format, math.floor, math.ceil, math.min, math.max
local FOREVER = 9007199254740991

local state = call('HMGET', STATE, 'at', 'ticket', 'capacity', 'period', 'burst', 'tokens', 'since', 'paused', 'spent', 'queued', 'life', 'head', 'due', 'born')
local function stored(index) return tonumber(state[index]) or 0 end

-- Time. The latest instant seen wins over a clock that stepped back; then the word of a timer, set for an instant that
-- was told from here, is taken that it has come. Nobody is held for ever.
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000000 + time[2]
end
local now = max(clock, stored(1))
if clock < now then now = max(now, told) end

local ticket, paused, spent, queued, life, head, due = stored(2), stored(8), stored(9), stored(10), stored(11), state[12], stored(13)
local born = state[14] and stored(14) or now
local active, waiting = call('ZCARD', LEASES), call('ZCARD', QUEUE)
local capacity, period, burst, tokens, since = stored(3), stored(4), stored(5), stored(6), stored(7)
local rate = capacity / period

-- What becomes of whom: for the caller in the answer, for others in a message to each.
local answer, messages = { 0 }, {}
local function tell(whom, event)
  local events = answer
  if whom ~= owner then
    events = messages[whom] or {}
    messages[whom] = events
  end
  events[#events + 1] = event
end
local function split(id) return string.match(id, '^(.*)%.(.*)$') end

-- The bucket.
local function level(at)
  if at > since then return min(burst, tokens + (at - since) * rate) end
  return tokens
end
local function ready(from, cost)
  if capacity < 0 then return from end
  local have = level(from)
  if cost - have <= burst * 1e-12 then return from end
  if have < burst then return min(FOREVER, ceil(since + (cost - tokens) / rate)) end
  return min(FOREVER, ceil(from + (cost - burst) / rate))
end
local function spend(cost)
  spent = spent + cost
  if capacity < 0 then return end
  tokens, since = level(now) - cost, now
end
-- Of a grant that was forgotten with the state of then, all that is known was spent after it.
local function settle(difference, mark, granted)
  if granted < born then mark = 0 end
  if capacity >= 0 then
    local have = level(now)
    if difference > 0 then tokens = have - difference
    else tokens = max(have, min(have - difference, burst - max(0, spent - mark))) end
    since = now
  end
  if difference > 0 then spent = spent + difference end
end

-- Leases and waiters.
local function item(id) return call('HGET', ITEMS, id) or '' end
local function hold(id, slot, granted, cost, mark, expiry)
  call('SETBIT', SLOTS, slot - 1, 1)
  call('ZADD', LEASES, expiry, id)
  call('HSET', ITEMS, id, format('%.0f %.0f %.17g %.17g', slot, granted, cost, mark))
  active, life = active + 1, max(life, expiry)
end
local function release(id)
  if call('ZREM', LEASES, id) == 0 then return end
  local slot, granted, cost, mark = string.match(item(id), '^(%S+) (%S+) (%S+) (%S+)$')
  call('HDEL', ITEMS, id)
  if slot then call('SETBIT', SLOTS, slot - 1, 0) end
  active = active - 1
  if active == 0 then call('DEL', SLOTS) end
  return tonumber(cost), tonumber(mark), tonumber(granted)
end
local function leave(id)
  if call('ZREM', QUEUE, id) == 0 then return false end
  queued, waiting = queued - (tonumber(string.match(item(id), '^%S+')) or 0), waiting - 1
  if waiting == 0 then queued = 0 end
  call('HDEL', ITEMS, id)
  return true
end
local function join(id, cost, concurrency, place)
  call('HSET', ITEMS, id, cost .. ' ' .. concurrency)
  if call('ZADD', QUEUE, place, id) == 0 then return end
  queued, waiting = queued + cost, waiting + 1
end

-- The one decision.
local function open(cost, concurrency)
  return (concurrency < 0 or active < concurrency) and now >= paused and ready(now, cost) <= now
end
local function grant(id, cost)
  local whom, serial = split(id)
  local expiry = whom == owner and now + ttl or tonumber(call('ZSCORE', OWNERS, whom) or now)
  local slot = call('BITPOS', SLOTS, 0) + 1
  spend(cost)
  hold(id, slot, now, cost, spent, expiry)
  tell(whom, format('G %s %.0f %.0f %.17g', serial, slot, now, spent))
end
-- Grants the first in line for as long as it fits. Returns who is first then, and what of.
local function drain()
  while waiting > 0 do
    local first = call('ZRANGE', QUEUE, 0, 0)[1]
    local cost, concurrency = string.match(item(first), '^(%S+) (%S+)$')
    cost, concurrency = tonumber(cost or 0), tonumber(concurrency or 0)
    if not open(cost, concurrency) then return first, cost, concurrency end
    leave(first)
    grant(first, cost)
  end
end

-- What ended by itself. A batch begins with the renewals: what it renews has not.
local index, lost = 9, {}
while ARGV[index] == 'K' do
  local id = owner .. '.' .. ARGV[index + 1]
  if call('ZSCORE', LEASES, id) then
    call('ZADD', LEASES, now + ttl, id)
    life = max(life, now + ttl)
  else lost[#lost + 1] = index end
  index = index + 6
end
if active > 0 then
  for _, id in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now)) do release(id) end
end
if waiting > 0 then
  local gone, dead = call('ZRANGEBYSCORE', OWNERS, '-inf', now), {}
  for _, whom in ipairs(gone) do
    if whom ~= owner then
      dead[whom] = true
      call('ZREM', OWNERS, whom)
    end
  end
  if next(dead) then
    for _, id in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
      if dead[split(id)] then leave(id) end
    end
  end
end

-- The rate is that of whoever came last with a new one.
if not state[3] or configures == '1' then
  local before, have = capacity, level(now)
  capacity, period, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  rate = capacity / period
  if not state[3] or before < 0 then tokens = burst else tokens = min(burst, have) end
  since = now
  if waiting > 0 then
    for _, id in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
      if (tonumber(string.match(item(id), '^%S+')) or 0) > burst then
        local whom, serial = split(id)
        leave(id)
        tell(whom, format('O %s %.17g', serial, burst))
      end
    end
  end
end

-- A lease that Redis knows no more, though its holder lives: its slot is taken up again, if it is free.
for _, at in ipairs(lost) do
  local slot = tonumber(ARGV[at + 2])
  if call('GETBIT', SLOTS, slot - 1) == 0 then
    hold(owner .. '.' .. ARGV[at + 1], slot, tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5]), now + ttl)
  else tell(owner, 'X ' .. ARGV[at + 1]) end
end

-- What is asked for, in order. Nothing fits that did not before, unless something changed.
local waits, changed = false, true
while ARGV[index] do
  local kind, serial = ARGV[index], ARGV[index + 1]
  local id = owner .. '.' .. (serial or '')
  if kind == 'A' or kind == 'W' then
    local cost, concurrency = tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3])
    -- Not before all have said by which limit they wait, and where.
    if changed and kind == 'A' then drain() end
    changed = kind == 'W'
    -- A client whose connection broke may have sent again what was heard already.
    local known = item(id)
    local slot, granted, _, mark = string.match(known, '^(%S+) (%S+) (%S+) (%S+)$')
    if cost > burst then
      leave(id)
      tell(owner, format('O %s %.17g', serial, burst))
    elseif slot then
      call('ZADD', LEASES, now + ttl, id)
      life = max(life, now + ttl)
      tell(owner, format('G %s %s %s %s', serial, slot, granted, mark))
    elseif kind == 'W' then
      join(id, ARGV[index + 2], ARGV[index + 3], ARGV[index + 4])
      ticket, waits = max(ticket, tonumber(ARGV[index + 4])), true
      -- Whatever it was granted before is no more.
      tell(owner, format('Q %s %s %.0f', serial, ARGV[index + 4], now))
    elseif known ~= '' then
      waits = true
      tell(owner, format('Q %s %.0f', serial, tonumber(call('ZSCORE', QUEUE, id))))
    elseif waiting == 0 and open(cost, concurrency) then
      grant(id, cost)
    else
      local timeout, most = tonumber(ARGV[index + 4]), tonumber(ARGV[index + 5])
      local wait = ready(max(now, paused), queued + cost) - now
      local late = timeout == 0 or (timeout > 0 and timeout * (1 + 1e-9) < wait)
      if late or (most >= 0 and waiting >= most) then
        tell(owner, format('%s %s %.0f %d %d', late and 'L' or 'F', serial, wait, active, waiting))
      else
        ticket, waits = max(ticket + 1, now), true
        join(id, ARGV[index + 2], ARGV[index + 3], ticket)
        tell(owner, format('Q %s %.0f', serial, ticket))
      end
    end
    index = index + (kind == 'A' and 6 or 5)
  elseif kind == 'R' then
    -- A renewal that came late may have put it back into the queue.
    if not release(id) then leave(id) end
    index, changed = index + 2, true
  elseif kind == 'C' then
    if not leave(id) then
      local cost, mark, granted = release(id)
      if cost then settle(-cost, mark, granted) end
    end
    index, changed = index + 2, true
  elseif kind == 'S' then
    settle(tonumber(ARGV[index + 1]), tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]))
    index, changed = index + 4, true
  elseif kind == 'P' then
    drain()
    paused = min(FOREVER, max(paused, now + tonumber(ARGV[index + 1])))
    index = index + 2
  elseif kind == 'U' then
    paused = 0
    index, changed = index + 1, true
  else return redis.error_reply('ERR headgate: no such operation: ' .. kind) end
end

-- One who waits proves by every call that it lives.
if waits or (waiting > 0 and call('ZSCORE', OWNERS, owner)) then
  call('ZADD', OWNERS, now + ttl, owner)
  life = max(life, now + ttl)
end
local first, cost, concurrency = drain()

-- Whoever is first, or rather its owner, sets a timer; all others watch that the owner lives.
if first then
  local whom = split(first)
  local at = ready(max(now, paused), cost)
  if concurrency >= 0 and active >= concurrency then
    -- So many have to end, and it lets in who comes after the one that ends last.
    local ends = call('ZRANGE', LEASES, active - concurrency, active - concurrency, 'WITHSCORES')
    at = max(at, tonumber(ends[2]) or FOREVER)
  end
  if whom == owner then answer[1] = format('%.0f %.0f', at - now, at)
  else
    local lapses = max(now + 1, tonumber(call('ZSCORE', OWNERS, whom) or now))
    answer[1] = format('%.0f %.0f', lapses - now, lapses)
    if first ~= head or at < due then tell(whom, format('H %.0f %.0f', at - now, at)) end
  end
  head, due = first, at
else head, due, answer[1] = '', 0, '' end

for whom, events in pairs(messages) do
  local hub, instance = string.match(whom, '^(.-)%.(.*)$')
  call('PUBLISH', 'headgate:' .. hub, instance .. '\\n' .. table.concat(events, '\\n'))
end

-- What cannot be told from new is not kept; the rest lives for as long as it makes a difference.
local full = now
if capacity >= 0 and level(now) < burst then full = since + (burst - tokens) / rate end
if active == 0 and waiting == 0 then
  life = 0
  if now >= paused and full <= now then
    call('DEL', unpack(KEYS))
    return answer
  end
end
call('HSET', STATE, 'at', now, 'ticket', ticket, 'capacity', capacity, 'period', period, 'burst', burst, 'tokens', tokens, 'since', since,
  'paused', paused, 'spent', spent, 'queued', queued, 'life', life, 'head', head, 'due', due, 'born', born)
local span = format('%.0f', ceil((min(FOREVER, max(life, full, paused)) - now) / 1000) + 1)
call('PEXPIRE', STATE, span)
if active > 0 or waiting > 0 then call('PEXPIRE', ITEMS, span) end
if active > 0 then
  call('PEXPIRE', LEASES, span)
  call('PEXPIRE', SLOTS, span)
end
if waiting > 0 then
  call('PEXPIRE', QUEUE, span)
  call('PEXPIRE', OWNERS, span)
elseif waits then call('DEL', OWNERS) end
return answer
`;
