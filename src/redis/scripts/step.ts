/**
 * The one script that changes anything: it carries out what a process asks for, in order, and grants whoever fits.
 * `../../throttle.ts` decides in the same way for one process; where this does as that does, it says no more about it.
 *
 * Instants and spans are whole microseconds of the server's clock, since it is the one clock that all agree on. An id
 * is `hub.instance.serial`; all but the last part is its owner, and what comes before the first dot tells its channel.
 *
 * state   string, packed by MessagePack: read and written five times as fast as a hash of so many numbers. `at` the latest
 *         instant, `ticket` the last one given out, `capacity`, `period` and `burst` (capacity -1: no rate), `tokens` at
 *         `since`, `paused` until, how many `grants` there were since `born`,
 *         `queued` cost, `life` an instant by which all has
 *         expired, `kept` the one until which the other keys are, for whom (`head`) and for when (`due`) a timer was last
 *         asked for, `lapse` an instant before which no lease expires, and `limits`: the concurrency of each owner that
 *         has somebody in the queue.
 * queue   sorted set of waiters, `id cost`, by ticket: an instant, made unique, so that even those who come back after
 *         the loss of all data come back in their old order.
 * leases  hash by id: `expiry slot granted cost number`. They are looked through for what has expired when `lapse` has
 *         come, which is once a ttl, since the living renew theirs three times as often.
 * owners  sorted set of those who have somebody in the queue, by expiry.
 * slots   bitmap of the slot numbers that are taken.
 * log     string of the latest grants, for settlements: the instant and the cost of each, as two doubles. Only a limited
 *         rate has it. The grants before are folded into the state: the `base` level after the grant `folded`, the instant
 *         `base_at` at which it was true, the limits of then, and the `peaks` of the level, as in `../../grant-log.ts`. A
 *         change of the limits takes the place of two grants: the instant and -1, the rate and the burst. A grant up to
 *         `ignored` came before the rate was limited.
 *
 * What is said: `K serial item` a lease is held still, and `W serial cost ticket` somebody waits still; `A serial cost
 * timeout` asks for a permit (0: now or never, -1: as long as it takes); `R serial cost` releases one, `C serial cost` gives
 * up a place, or what was granted meanwhile, with its tokens; `S difference granted number` settles the cost of a grant; `P span`
 * pauses, `U` resumes. What is told: `G serial slot granted cost number` a grant; `Q serial ticket` a place in the queue, with
 * the present instant where it was taken up again; `L` (late) and `F` (full) `serial wait active waiting` a refusal,
 * `O serial burst` one for a cost that is too large; `X serial` a lease is lost, `Z serial` a place, by a reset; `H span at`
 * whoever is first is due then. The answer begins with that, without the letter.
 *
 * A call of Redis from here costs as much as all else that is done for a permit. So what a batch is about is read at
 * once, at its beginning; what it changes is kept in tables meanwhile, and written at once, at its end.
 */
export const STEP: string = /* lua */ `
local STATE, QUEUE, LEASES, OWNERS, SLOTS, LOG = unpack(KEYS)
local owner, ttl, configures, told, clock = ARGV[1], tonumber(ARGV[2]), ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local most, concurrency, BEGIN = tonumber(ARGV[9]), tonumber(ARGV[10]), 11
local call, format, match, floor, ceil, min, max = redis.call, string.format, string.match, math.floor, math.ceil, math.min, math.max
local FOREVER = 9007199254740991

local packed = call('GET', STATE)
local at, ticket, paused, grants, born, queued, life, kept, head, due, lapse, limits = 0, 0, 0, 0, nil, 0, 0, 0, '', 0, 0, {}
local capacity, period, burst, tokens, since = 0, 1, 0, 0, 0
local base, base_at, base_rate, base_burst, folded, ignored, peaks = 0, 0, 0, 0, 0, 0, {}
if packed then
  if string.sub(packed, 1, 9) ~= '\\168headgate' then return redis.error_reply('WRONGTYPE ' .. STATE .. ' holds something else than the state of a throttle') end
  local _
  _, at, ticket, capacity, period, burst, tokens, since, paused, grants, born, queued, life, kept, head, due, lapse, limits, base, base_at, base_rate, base_burst, folded, ignored, peaks = cmsgpack.unpack(packed)
end
local rate = capacity / period
local active, waiting = call('HLEN', LEASES), call('ZCARD', QUEUE)
local held_before, waited_before = active, waiting

-- Time. The latest instant seen wins over a clock that stepped back; then the word of a timer, set for an instant that
-- was told from here, is taken that it has come. Nobody is held for ever.
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000000 + time[2]
end
local now = max(clock, at)
if clock < now then now = max(now, told) end
born = born or now

-- Calls with many arguments, in parts that Lua can take.
local function many(command, key, values)
  for from = 1, #values, 4000 do call(command, key, unpack(values, from, min(from + 3999, #values))) end
end

-- Who of those that are spoken of holds which lease, and who waits, with which ticket.
local WORDS = { A = 4, W = 4, K = 3, R = 3, C = 3, S = 4, P = 2, U = 1 }
local held, placed, ids, id_at, waiters = {}, {}, {}, {}, {}
local index = BEGIN
while ARGV[index] do
  local kind = ARGV[index]
  local words = WORDS[kind]
  if not words then return redis.error_reply('ERR headgate: no such operation: ' .. kind) end
  if kind ~= 'S' and words > 2 then
    local id = owner .. '.' .. ARGV[index + 1]
    ids[#ids + 1], id_at[index] = id, id
    if waiting > 0 and kind ~= 'K' and kind ~= 'R' then waiters[#waiters + 1] = id .. ' ' .. ARGV[index + 2] end
  end
  index = index + words
end
local function look(command, key, members, into)
  for from = 1, #members, 4000 do
    local till = min(from + 3999, #members)
    for place, found in ipairs(call(command, key, unpack(members, from, till))) do into[members[from + place - 1]] = found or nil end
  end
end
if active > 0 and ids[1] then look('HMGET', LEASES, ids, held) end
if waiters[1] then look('ZMSCORE', QUEUE, waiters, placed) end

-- What becomes of whom: for the caller in the answer, for others in a message to each.
local answer, messages = { '' }, {}
local function tell(whom, event)
  local events = answer
  if whom ~= owner then
    events = messages[whom] or {}
    messages[whom] = events
  end
  events[#events + 1] = event
end

-- The bucket.
local function level(at)
  if at > since then return min(burst, tokens + (at - since) * rate) end
  return tokens
end
local function ready(from, cost)
  if capacity < 0 then return from end
  local have = level(from)
  -- A cost of 0 takes no token, so it does not wait for a debt to be paid either.
  if cost == 0 or cost - have <= burst * 1e-12 then return from end
  if have < burst then return min(FOREVER, ceil(since + (cost - tokens) / rate)) end
  return min(FOREVER, ceil(from + (cost - burst) / rate))
end
-- The log of grants: MOST_LOGGED at most are kept one by one, 16 bytes each.
local MOST_LOGGED, MOST_PEAKS = 128, 64
local logged, made = {}, {}
local function flush_log()
  if not logged[1] then return end
  -- The first of a log replaces what another state may have left behind.
  local first = grants - folded == #logged
  if first then made[LOG] = true end
  call(first and 'SET' or 'APPEND', LOG, table.concat(logged))
  logged = {}
end
-- The log as a string; nothing if Redis has lost it.
local function read_log()
  flush_log()
  local log = call('GET', LOG) or ''
  if #log == 16 * (grants - folded) then return log end
end
-- The history begins here.
local function restart_log()
  call('DEL', LOG)
  logged, base, base_at, base_rate, base_burst, folded, peaks = {}, tokens, since, rate, burst, grants, {}
end
-- Replays the first grants of the log. Notes the room that was left before each, if asked.
local function replay(log, count, rooms)
  local level, at, speed, size, entry = base, base_at, base_rate, base_burst, 1
  while entry <= count do
    local time, cost = struct.unpack('>dd', log, entry * 16 - 15)
    if time > at then level, at = min(size, level + (time - at) * speed), time end
    if cost == -1 then
      -- What the smaller of the two buckets cannot hold is lost.
      local before = size
      speed, size = struct.unpack('>dd', log, entry * 16 + 1)
      level = min(size, level)
      if rooms then rooms[entry], rooms[entry + 1] = min(before, size) - level, math.huge end
      entry = entry + 2
    else
      if rooms then rooms[entry] = size - level end
      level, entry = level - cost, entry + 1
    end
  end
  return level, at, speed, size
end
-- Folds the first grants of the log into the base, and returns what is left of it.
local function fold(log, count)
  local rooms, found, least = {}, {}, math.huge
  if select(2, struct.unpack('>dd', log, count * 16 - 15)) == -1 then count = count + 1 end
  base, base_at, base_rate, base_burst = replay(log, count, rooms)
  for entry = count, 1, -1 do
    if rooms[entry] < least then
      least = rooms[entry]
      found[#found + 1] = { folded + entry - 1, least }
    end
  end
  for index = #peaks, 1, -1 do
    if peaks[index][2] < least then found[#found + 1] = peaks[index] end
  end
  -- Neighbours are merged strictly: the higher peak counts for every grant before the later one.
  local group = ceil(#found / MOST_PEAKS)
  peaks, folded = {}, folded + count
  for last = #found, 1, -group do
    peaks[#peaks + 1] = { found[max(1, last - group + 1)][1], found[last][2] }
  end
  return string.sub(log, count * 16 + 1)
end
local function trim_log()
  if grants - folded <= MOST_LOGGED then return end
  local log = read_log()
  if log then call('SET', LOG, fold(log, grants - folded - MOST_LOGGED / 2))
  else restart_log() end
  made[LOG] = true
end
-- Corrects the cost of a folded grant; of one that is forgotten, with the number -1.
local function correct_folded(number, difference)
  local index = 1
  while peaks[index] and peaks[index][1] < number do index = index + 1 end
  local change = -difference
  if peaks[index] then change = min(change, peaks[index][2]) end
  base = base + change
  for later = index, #peaks do peaks[later][2] = peaks[later][2] - change end
  while peaks[index] and index > 1 and peaks[index - 1][2] >= peaks[index][2] do
    table.remove(peaks, index - 1)
    index = index - 1
  end
end
-- Leaves the level that there would be, had the true cost been asked for in the first place.
local function settle(difference, granted, number)
  if capacity < 0 or number <= 0 then return end
  if granted < born or number > grants then number = -1 elseif number <= ignored then return end
  -- Of a grant that was forgotten with the state of then, or with the log, a debt is all that can be counted.
  local log = read_log()
  if not log then
    restart_log()
    log, number = '', -1
  end
  if number < 0 and difference < 0 then return end
  if number > folded then
    local first = (number - folded) * 16 - 15
    local time, cost = struct.unpack('>dd', log, first)
    local entry = struct.pack('>dd', time, cost + difference)
    call('SETRANGE', LOG, first - 1, entry)
    log = string.sub(log, 1, first - 1) .. entry .. string.sub(log, first + 16)
  else correct_folded(number, difference) end
  tokens, since = replay(log, grants - folded)
end

-- Slots: the lowest that is free. Those that came back, or were given out again, are not in the bitmap yet.
local freed, sorted, lowest = {}, true, nil
local function take()
  if active == 0 and not freed[1] then
    call('DEL', SLOTS)
    made[SLOTS] = true
  end
  if not sorted then
    table.sort(freed, function(a, b) return a > b end)
    sorted = true
  end
  local slot = freed[#freed]
  if slot ~= 1 then lowest = lowest or call('BITPOS', SLOTS, 0) + 1 end
  if slot and (slot == 1 or slot < lowest) then
    freed[#freed] = nil
    return slot
  end
  slot, lowest = lowest, nil
  call('SETBIT', SLOTS, slot - 1, 1)
  return slot
end
local function free()
  for _, slot in ipairs(freed) do call('SETBIT', SLOTS, slot - 1, 0) end
  freed, lowest = {}, nil
end

-- Leases.
local leased, dropped, renewed = {}, {}, {}
local function prolong()
  if now + ttl > life then life = now + ttl + floor(ttl / 8) end
end
local function hold(id, expiry, item)
  -- Of values longer than 64 bytes Redis makes a table; in the list that it makes of a few short ones, each is searched for.
  held[id], leased[#leased + 1] = format(active < 16 and '%.0f %s' or '%.0f %-65s', expiry, item), id
  lapse = active == 0 and expiry or min(lapse, expiry)
  if expiry > life then prolong() end
end
local function release(id, slot)
  held[id], dropped[#dropped + 1], active = nil, id, active - 1
  freed[#freed + 1] = tonumber(slot)
  sorted = false
end

-- The queue.
local joined, gone = {}, {}
local function left(cost)
  waiting, queued = waiting - 1, queued - cost
  if waiting == 0 then queued = 0 end
end
local function leave(waiter, cost)
  -- Not nil: Redis may know of it until the batch ends.
  placed[waiter], gone[#gone + 1] = false, waiter
  left(cost)
end
local function join(waiter, cost, at)
  if waiting == 0 then made[QUEUE] = true end
  placed[waiter], joined[#joined + 1] = at, waiter
  waiting, queued = waiting + 1, queued + cost
end
local function line_up()
  if joined[1] then
    local pairs = {}
    for _, waiter in ipairs(joined) do
      if placed[waiter] then
        pairs[#pairs + 1] = placed[waiter]
        pairs[#pairs + 1] = waiter
      end
    end
    many('ZADD', QUEUE, pairs)
    joined = {}
  end
  if gone[1] then
    many('ZREM', QUEUE, gone)
    gone = {}
  end
end
limits[owner] = concurrency

-- The one decision.
local function open(limit, cost)
  return (limit < 0 or active < limit) and now >= paused and ready(now, cost) <= now
end
local function grant(whom, serial, cost)
  local slot = take()
  if capacity >= 0 then
    grants, tokens, since = grants + 1, level(now) - cost, max(now, since)
    logged[#logged + 1] = struct.pack('>dd', since, cost)
  end
  local item = format('%d %.0f %s %.0f', slot, now, cost, capacity < 0 and 0 or grants)
  hold(whom .. '.' .. serial, whom == owner and now + ttl or tonumber(call('ZSCORE', OWNERS, whom) or now), item)
  active = active + 1
  tell(whom, 'G ' .. serial .. ' ' .. item)
end
-- Grants the first in line for as long as it fits; looks at as many at once as there are slots. Returns whose is first
-- then, and what it is.
local function drain()
  while waiting > 0 do
    line_up()
    local granted, free_slots = 0, concurrency < 0 and 32 or min(32, concurrency - active)
    for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, max(0, free_slots - 1))) do
      local whom, serial, cost = match(waiter, '^(.*)%.(%S+) (.*)$')
      if not open(limits[whom] or 0, tonumber(cost)) then
        if granted > 0 then call('ZREMRANGEBYRANK', QUEUE, 0, granted - 1) end
        return whom, waiter, tonumber(cost)
      end
      granted, placed[waiter] = granted + 1, nil
      left(cost)
      grant(whom, serial, cost)
    end
    call('ZREMRANGEBYRANK', QUEUE, 0, granted - 1)
  end
end

-- What ended by itself. A batch begins with the renewals: what it renews has not.
local lost = {}
index = BEGIN
while ARGV[index] == 'K' do
  local id = id_at[index]
  renewed[id] = true
  if not held[id] then lost[#lost + 1] = index
  elseif match(held[id], '^%S+ (%S+)') == match(ARGV[index + 2], '^%S+') then hold(id, now + ttl, ARGV[index + 2])
  else
    -- Granted twice, since it was asked for twice by a client whose connection broke: it knows the other.
    release(id, match(held[id], '^%S+ (%S+)'))
    tell(owner, 'X ' .. ARGV[index + 1])
  end
  index = index + 3
end
if active > 0 and now >= lapse then
  lapse = FOREVER
  local all = call('HGETALL', LEASES)
  for at = 1, #all, 2 do
    local expiry, slot = match(all[at + 1], '^(%d+) (%d+)')
    expiry = renewed[all[at]] and now + ttl or tonumber(expiry)
    if expiry <= now then release(all[at], slot) else lapse = min(lapse, expiry) end
  end
end
local function purge(goes, event)
  line_up()
  for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
    local whom, serial, cost = match(waiter, '^(.*)%.(%S+) (.*)$')
    if goes(whom, tonumber(cost)) then
      leave(waiter, cost)
      if event then tell(whom, event(serial)) end
    end
  end
end
if waiting > 0 then
  local dead = {}
  for _, whom in ipairs(call('ZRANGEBYSCORE', OWNERS, '-inf', now)) do
    if whom ~= owner then
      dead[whom] = true
      call('ZREM', OWNERS, whom)
      limits[whom] = nil
    end
  end
  if next(dead) then purge(function(whom) return dead[whom] end) end
end

-- The rate is that of whoever came last with a new one.
local function oversize(serial) return format('O %s %.17g', serial, burst) end
local same = capacity == tonumber(ARGV[3]) and period == tonumber(ARGV[4]) and burst == tonumber(ARGV[5])
if not packed or (configures == '1' and not same) then
  local before, size, have = capacity, burst, level(now)
  capacity, period, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  rate = capacity / period
  if not packed or before < 0 or capacity < 0 then
    tokens, since, ignored = burst, now, grants
    if packed then restart_log() else base, base_at, base_rate, base_burst = burst, now, rate, burst end
  else
    tokens, since = min(burst, have), now
    -- The grants before keep to the limits of then.
    logged[#logged + 1], logged[#logged + 2] = struct.pack('>dd', now, -1), struct.pack('>dd', rate, burst)
    grants = grants + 2
  end
  if waiting > 0 and burst < size then purge(function(_, cost) return cost > burst end, oversize) end
end

-- A lease that Redis knows no more, though its holder lives: its slot is taken up again, if it is free.
if lost[1] then free() end
for _, at in ipairs(lost) do
  local serial, item = ARGV[at + 1], ARGV[at + 2]
  local slot = match(item, '^%d+') - 1
  if call('GETBIT', SLOTS, slot) == 0 then
    call('SETBIT', SLOTS, slot, 1)
    made[SLOTS] = true
    hold(owner .. '.' .. serial, now + ttl, item)
    active = active + 1
  else tell(owner, 'X ' .. serial) end
end

-- What is asked for, in order. Nothing fits that did not before, unless something changed.
local waits, changed = false, true
while ARGV[index] do
  local kind, serial = ARGV[index], ARGV[index + 1]
  local id = id_at[index]
  if kind == 'A' or kind == 'W' then
    local written, last = ARGV[index + 2], tonumber(ARGV[index + 3])
    local cost, waiter = tonumber(written), waiting > 0 and id .. ' ' .. written
    -- Who waits as long as it takes comes after all who wait anyway, whoever of them fits by now.
    if kind == 'A' and changed and waiting > 0 and (last >= 0 or most >= 0) then
      drain()
      changed = false
    end
    if held[id] then
      -- It was granted and has not heard of it; or a client whose connection broke has sent again what was heard.
      local item = match(held[id], ' (.-) *$')
      hold(id, now + ttl, item)
      tell(owner, 'G ' .. serial .. ' ' .. item)
    elseif waiter and placed[waiter] then
      waits = true
      if kind == 'A' then tell(owner, format('Q %s %.0f', serial, placed[waiter])) end
    elseif cost > burst then tell(owner, oversize(serial))
    elseif kind == 'W' then
      join(waiter or id .. ' ' .. written, cost, last)
      ticket, waits, changed = max(ticket, last), true, true
      -- Whatever it was granted before is no more.
      tell(owner, format('Q %s %s %.0f', serial, ARGV[index + 3], now))
    elseif waiting == 0 and open(concurrency, cost) then grant(owner, serial, written)
    else
      local wait = ready(max(now, paused), queued + cost) - now
      local late = last == 0 or (last > 0 and last * (1 + 1e-9) < wait)
      if late or (most >= 0 and waiting >= most) then
        tell(owner, format('%s %s %.0f %d %d', late and 'L' or 'F', serial, wait, active, waiting))
      else
        ticket, waits = max(ticket + 1, now), true
        join(waiter or id .. ' ' .. written, cost, ticket)
        tell(owner, format('Q %s %.0f', serial, ticket))
      end
    end
  elseif kind == 'R' then
    local waiter = id .. ' ' .. ARGV[index + 2]
    if held[id] then release(id, match(held[id], '^%S+ (%S+)'))
    -- A renewal that came late may have put it back into the queue.
    elseif waiting > 0 and (placed[waiter] or (placed[waiter] == nil and call('ZSCORE', QUEUE, waiter))) then leave(waiter, ARGV[index + 2]) end
    changed = true
  elseif kind == 'C' then
    local waiter = id .. ' ' .. ARGV[index + 2]
    if placed[waiter] then leave(waiter, ARGV[index + 2])
    elseif held[id] then
      local slot, granted, cost, number = match(held[id], '^%S+ (%S+) (%S+) (%S+) (%S+)')
      release(id, slot)
      settle(-cost, tonumber(granted), tonumber(number))
    end
    changed = true
  elseif kind == 'S' then
    settle(tonumber(serial), tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]))
    changed = true
  elseif kind == 'P' then
    drain()
    paused, changed = min(FOREVER, max(paused, now + tonumber(serial))), false
  elseif kind == 'U' then
    paused, changed = 0, true
  end
  index = index + WORDS[kind]
end
local whose, first, cost = drain()
line_up()
flush_log()
trim_log()

-- One who waits proves by every call that it lives.
local proves = waiting > 0 and (waits or call('ZSCORE', OWNERS, owner))
if proves then
  if call('ZADD', OWNERS, now + ttl, owner) == 1 then made[OWNERS] = true end
  prolong()
else limits[owner] = nil end

if waiting == 0 and waited_before > 0 then
  limits = {}
  call('DEL', OWNERS)
end

-- What was leased is there before what was dropped goes: the keys stay, and with them their time to live.
if leased[1] then
  if held_before == 0 then made[LEASES] = true end
  local pairs = {}
  for _, id in ipairs(leased) do
    if held[id] then
      pairs[#pairs + 1] = id
      pairs[#pairs + 1] = held[id]
    end
  end
  many('HSET', LEASES, pairs)
end
local ended = {}
for _, id in ipairs(dropped) do
  -- What lapsed may have been granted anew in the same batch.
  if not held[id] then ended[#ended + 1] = id end
end
many('HDEL', LEASES, ended)
if active == 0 then
  if freed[1] then call('DEL', SLOTS) end
else free() end

-- Whoever is first, or rather its owner, sets a timer; all others watch that the owner lives.
if first then
  local at, limit = ready(max(now, paused), cost), limits[whose] or 0
  -- The next lease to end may be renewed by then; if not, there is a slot.
  if limit >= 0 and active >= limit then at = max(at, lapse) end
  if whose == owner then answer[1] = format('%.0f %.0f', at - now, at)
  else
    local lapses = max(now + 1, tonumber(call('ZSCORE', OWNERS, whose) or now))
    answer[1] = format('%.0f %.0f', lapses - now, lapses)
    if first ~= head or at < due then tell(whose, format('H %.0f %.0f', at - now, at)) end
  end
  head, due = first, at
else head, due = '', 0 end

for whom, events in pairs(messages) do
  local hub, instance = match(whom, '^(.-)%.(.*)$')
  call('PUBLISH', 'headgate:' .. hub, instance .. '\\n' .. table.concat(events, '\\n'))
end

-- What cannot be told from new is not kept; the rest lives for as long as it makes a difference.
local needed, busy = max(now, paused), active > 0 or waiting > 0
if capacity >= 0 and level(now) < burst then needed = max(needed, since + (burst - tokens) / rate) end
if busy then needed = max(needed, life)
else
  life = 0
  if needed <= now then
    call('DEL', unpack(KEYS))
    return answer
  end
end
needed = min(FOREVER, ceil(needed))
-- While the clock stands still, as it were, the keys age all the same.
local moved = not busy or clock < now or needed > kept or needed < kept - 2 * ttl
if moved then kept = needed end
local span = format('%.0f', ceil((kept - now) / 1000) + 1)
call('SET', STATE, cmsgpack.pack('headgate', now, ticket, capacity, period, burst, tokens, since, paused, grants, born, queued, life, kept, head, due, lapse, limits, base, base_at, base_rate, base_burst, folded, ignored, peaks), 'PX', span)
if moved and not busy then
  if capacity >= 0 then call('PEXPIRE', LOG, span) end
  return answer
end
for _, key in ipairs({ QUEUE, LEASES, OWNERS, SLOTS, LOG }) do
  if moved or made[key] then call('PEXPIRE', key, span) end
end
return answer
`;
