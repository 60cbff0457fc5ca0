/**
 * The script that changes the state: it applies the commands of a process in order, and grants every waiter that fits.
 * `../../core/throttle.ts` makes the same decisions for one process; its comments are not repeated here.
 *
 * Instants and spans are whole microseconds by the clock of the server, which all processes share. An id is
 * `connection.instance.serial`. Its first two parts are the owner, and its first part names the channel of the owner.
 *
 * KEYS
 *
 * state   a string, packed by MessagePack: a hash of so many numbers takes five times as long. Its fields:
 *         `at`          the latest instant
 *         `ticket`      the last ticket
 *         `capacity`, `period`, `burst`  the rate; capacity -1 means no rate limit
 *         `tokens`      the level of the bucket at the instant `since`
 *         `paused`      the end of the pause
 *         `grants`      the number of entries that the log has had since `created_at`
 *         `queued`      the cost of all waiters
 *         `last_expiry` an instant by which every lease and every place has expired
 *         `keys_expiry` the instant until which Redis keeps the other keys
 *         `head`, `due` the waiter and the instant of the latest wake-up time that was sent
 *         `next_expiry` an instant before which no lease expires
 *         `limits`      the concurrency of each owner with waiters
 *         the rest      the base of the log, see below
 * queue   a sorted set of waiters, `id cost`, by ticket. A ticket is an instant, made unique. So waiters that return
 * after
 *         a loss of all data return in their old order.
 * leases  a hash by id: `expiry slot granted cost number`. The script searches it for expired leases when `next_expiry`
 * has
 *         passed. That is once per ttl, since processes renew their leases three times as often.
 * owners  a sorted set of the owners with waiters, by expiry.
 * slots   a bitmap of the slot numbers in use.
 * log     a string of the latest grants, for settlements: the instant and the cost of each, as two doubles. A change of
 *         the limits takes two entries: the instant and -1, then the rate and the burst. Only a limited rate has a log.
 *         Earlier entries are folded into the state: the `base` level after the entry `folded`, its instant `base_at`,
 *         the limits at that instant, and the `peaks` of the level, as in `../../core/settlement-log.ts`. Grants up to
 *         `ignored` happened before the rate was limited.
 *
 * ARGV
 *
 * The owner, the ttl, the capacity, the period, the burst, whether the limits are new, the server instant that the
 * timer of the process has confirmed, the clock of a test (or empty), maxQueue, the concurrency, then the commands:
 *
 * `K serial item`          renews a lease. Renewals come first.
 * `W serial cost ticket`   renews a place in the queue.
 * `A serial cost timeout`  requests a permit (timeout 0: now or never, -1: without a timeout).
 * `R serial cost`          releases a permit.
 * `C serial cost`          cancels a request: the place in the queue, or the grant with its tokens.
 * `S cost requested granted number`  states the true cost of a grant. The same settlement counts once even if it
 * arrives
 *                          twice, as long as the log contains the grant.
 * `P span`                 pauses. `U` resumes.
 *
 * REPLY AND MESSAGES
 *
 * `G serial slot granted cost number`  a grant.
 * `Q serial ticket [now]`  a place in the queue; with `now` if the waiter has returned to the queue.
 * `L`, `F serial wait active waiting`  a refusal: the timeout is too short (late), or the queue is full.
 * `O serial burst`         a refusal: the cost is too large.
 * `X serial`, `Z serial`   a lease, or a place, is lost by a reset.
 * `H span at`              the owner must call the script again after `span`. The reply starts with it, without the
 * `H`.
 *
 * A call of Redis from Lua costs as much as all other work for a permit. So the script reads at its start what the
 * commands of the batch need, keeps changes in tables, and writes them at its end.
 */

/**
 * Creates the script.
 *
 * @param keyLifetime A Lua expression for the milliseconds until the keys expire. Only a test replaces it.
 */
export const createStep = (keyLifetime = `format('%.0f', ceil((keys_expiry - now) / 1000) + 1)`): string => /* lua */ `
local STATE, QUEUE, LEASES, OWNERS, SLOTS, LOG = unpack(KEYS)
local owner, ttl, configures = ARGV[1], tonumber(ARGV[2]), ARGV[6]
local confirmed_now, clock = tonumber(ARGV[7]), tonumber(ARGV[8])
local max_queue, concurrency, BEGIN = tonumber(ARGV[9]), tonumber(ARGV[10]), 11
local call, format, match = redis.call, string.format, string.match
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local FOREVER = 9007199254740991

local packed = call('GET', STATE)
local at, ticket, paused, grants, created_at, queued = 0, 0, 0, 0, nil, 0
local last_expiry, keys_expiry, head, due, next_expiry, limits = 0, 0, '', 0, 0, {}
local capacity, period, burst, tokens, since = 0, 1, 0, 0, 0
local base, base_at, base_rate, base_burst, folded, ignored, peaks = 0, 0, 0, 0, 0, 0, {}
if packed then
  if string.sub(packed, 1, 9) ~= '\\168headgate' then
    return redis.error_reply('WRONGTYPE the key does not hold the state of a throttle')
  end
  local _
  _, at, ticket, capacity, period, burst, tokens, since, paused, grants, created_at, queued,
    last_expiry, keys_expiry, head, due, next_expiry, limits,
    base, base_at, base_rate, base_burst, folded, ignored, peaks = cmsgpack.unpack(packed)
end
local rate = capacity / period
local active, waiting = call('HLEN', LEASES), call('ZCARD', QUEUE)
local held_before, waited_before = active, waiting

-- Time never steps back. While the clock is behind, the timer of a process can confirm that an instant has passed.
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000000 + time[2]
end
local now = max(clock, at)
if clock < now then now = max(now, confirmed_now) end
created_at = created_at or now

-- Lua limits the number of arguments of a call.
local function call_in_parts(command, key, values)
  for from = 1, #values, 4000 do call(command, key, unpack(values, from, min(from + 3999, #values))) end
end

-- Reads the leases and the tickets of all ids in the batch.
local WORDS = { A = 4, W = 4, K = 3, R = 3, C = 3, S = 5, P = 2, U = 1 }
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
local function fetch(command, key, members, into)
  for from = 1, #members, 4000 do
    local till = min(from + 3999, #members)
    for place, found in ipairs(call(command, key, unpack(members, from, till))) do
      into[members[from + place - 1]] = found or nil
    end
  end
end
if active > 0 and ids[1] then fetch('HMGET', LEASES, ids, held) end
if waiters[1] then fetch('ZMSCORE', QUEUE, waiters, placed) end

-- Events for the caller go into the reply, events for other owners into messages.
local reply, messages = { '' }, {}
local function notify(recipient, event)
  local events = reply
  if recipient ~= owner then
    events = messages[recipient] or {}
    messages[recipient] = events
  end
  events[#events + 1] = event
end

-- The bucket.
local function level(at)
  if at > since then return min(burst, tokens + (at - since) * rate) end
  return tokens
end
local function ready_at(from, cost)
  if capacity < 0 then return from end
  local have = level(from)
  -- A cost of 0 takes no token, so it never waits for a debt.
  if cost == 0 or cost - have <= burst * 1e-12 then return from end
  if have < burst then return min(FOREVER, ceil(since + (cost - tokens) / rate)) end
  return min(FOREVER, ceil(from + (cost - burst) / rate))
end
-- The log of grants: at most MOST_LOGGED entries of 16 bytes.
local MOST_LOGGED, MOST_PEAKS = 128, 64
local logged, created = {}, {}
local function flush_log()
  if not logged[1] then return end
  -- An expired log may outlive its state by a millisecond.
  local first = grants - folded == #logged
  call(first and 'SET' or 'APPEND', LOG, table.concat(logged))
  logged, created[LOG] = {}, first or created[LOG]
end
-- Returns the log, or nil if Redis has lost it.
local function read_log()
  flush_log()
  local log = grants > folded and call('GET', LOG) or ''
  if #log == 16 * (grants - folded) then return log end
end
-- Replays the first entries, and never splits the two of a change. Stores the room before each grant in rooms.
-- Returns the level, its instant, the limits, and the number of entries.
local function replay(log, count, rooms)
  local level, at, speed, size, entry = base, base_at, base_rate, base_burst, 0
  while entry < count do
    entry = entry + 1
    local time, cost = struct.unpack('>dd', log, entry * 16 - 15)
    level, at = min(size, level + max(0, time - at) * speed), time
    local room = size - level
    if cost >= 0 then level = level - cost
    else
      -- Tokens above the smaller burst are lost: the change is a peak.
      speed, size = struct.unpack('>dd', log, entry * 16 + 1)
      room = max(0, min(room, size - level))
      level, entry = min(size, level), entry + 1
    end
    if rooms then rooms[entry] = room end
  end
  return level, at, speed, size, entry
end
-- Folds the first entries into the base, and returns the rest of the log.
local function fold(log, count)
  local rooms, found, least = {}, {}, math.huge
  base, base_at, base_rate, base_burst, count = replay(log, count, rooms)
  for entry = count, 1, -1 do
    if rooms[entry] and rooms[entry] < least then
      least = rooms[entry]
      found[#found + 1] = { folded + entry - 1, least }
    end
  end
  for index = #peaks, 1, -1 do
    if peaks[index][2] < least then found[#found + 1] = peaks[index] end
  end
  peaks, folded = {}, folded + count
  for index = #found, 1, -1 do peaks[#peaks + 1] = found[index] end
  -- Merges similar neighbours: the higher peak counts for all grants before the later one.
  local grain = burst / 512
  while #peaks > MOST_PEAKS do
    local merged = {}
    for _, peak in ipairs(peaks) do
      local last = merged[#merged]
      if last and peak[2] - last[2] < grain then last[1] = peak[1] else merged[#merged + 1] = peak end
    end
    peaks, grain = merged, grain * 2
  end
  return string.sub(log, count * 16 + 1)
end
-- Starts a new log after a loss. A peak without room: earlier grants are never refunded.
local function renew_log()
  call('DEL', LOG)
  base, base_at, base_rate, base_burst, folded, peaks = tokens, since, rate, burst, grants, { { grants, 0 } }
end
local function trim_log()
  if grants - folded <= MOST_LOGGED then return end
  local log = read_log()
  if log then
    call('SET', LOG, fold(log, grants - folded - MOST_LOGGED / 2))
    created[LOG] = true
  else renew_log() end
end
-- Corrects the cost of a folded grant, or of a forgotten one (number -1).
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
-- Sets the level that a request of the true cost would have left.
local function settle(cost, requested, granted, number)
  if capacity < 0 or number <= 0 then return end
  if granted < created_at or number > grants then number = -1 elseif number <= ignored then return end
  -- A forgotten grant can leave a debt, but gets no refund.
  if number < 0 and cost < requested then return end
  local log = read_log()
  if not log then
    renew_log()
    log = ''
  end
  if number > folded then
    local first = (number - folded) * 16 - 15
    local entry = struct.pack('>dd', struct.unpack('>d', log, first), cost)
    call('SETRANGE', LOG, first - 1, entry)
    log = string.sub(log, 1, first - 1) .. entry .. string.sub(log, first + 16)
  else correct_folded(number, cost - requested) end
  tokens, since = replay(log, grants - folded)
end

-- Slots: the lowest free one is taken. The bitmap does not contain the changes of this batch.
local freed, sorted, lowest = {}, true, nil
local function take_slot()
  if active == 0 and not freed[1] then
    call('DEL', SLOTS)
    created[SLOTS] = true
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
local function flush_slots()
  for _, slot in ipairs(freed) do call('SETBIT', SLOTS, slot - 1, 0) end
  freed, lowest = {}, nil
end

-- Leases.
local leased, dropped, renewed = {}, {}, {}
local function extend_life()
  if now + ttl > last_expiry then last_expiry = now + ttl + floor(ttl / 8) end
end
local function put_lease(id, expiry, item)
  -- A value over 64 bytes makes Redis use a hash table; a list of short values is searched linearly.
  held[id], leased[#leased + 1] = format(active < 16 and '%.0f %s' or '%.0f %-65s', expiry, item), id
  next_expiry = active == 0 and expiry or min(next_expiry, expiry)
  if expiry > last_expiry then extend_life() end
end
local function release(id, slot)
  held[id], dropped[#dropped + 1], active = nil, id, active - 1
  freed[#freed + 1] = tonumber(slot)
  sorted = false
end

-- The queue.
local joined, removed = {}, {}
local function subtract_waiter(cost)
  waiting, queued = waiting - 1, queued - cost
  if waiting == 0 then queued = 0 end
end
local function leave(waiter, cost)
  -- false, not nil: Redis has the waiter until the end of the batch.
  placed[waiter], removed[#removed + 1] = false, waiter
  subtract_waiter(cost)
end
local function join(waiter, cost, at)
  if waiting == 0 then created[QUEUE] = true end
  placed[waiter], joined[#joined + 1] = at, waiter
  waiting, queued = waiting + 1, queued + cost
end
local function flush_queue()
  if joined[1] then
    local pairs = {}
    for _, waiter in ipairs(joined) do
      if placed[waiter] then
        pairs[#pairs + 1] = placed[waiter]
        pairs[#pairs + 1] = waiter
      end
    end
    call_in_parts('ZADD', QUEUE, pairs)
    joined = {}
  end
  if removed[1] then
    call_in_parts('ZREM', QUEUE, removed)
    removed = {}
  end
end
limits[owner] = concurrency

-- The one decision.
local function fits(limit, cost)
  return (limit < 0 or active < limit) and now >= paused and ready_at(now, cost) <= now
end
local function grant(recipient, serial, cost)
  local slot = take_slot()
  if capacity >= 0 then
    grants, tokens, since = grants + 1, level(now) - cost, max(now, since)
    logged[#logged + 1] = struct.pack('>dd', since, cost)
  end
  local item = format('%d %.0f %s %.0f', slot, now, cost, capacity < 0 and 0 or grants)
  local expiry = recipient == owner and now + ttl or tonumber(call('ZSCORE', OWNERS, recipient) or now)
  put_lease(recipient .. '.' .. serial, expiry, item)
  active = active + 1
  notify(recipient, 'G ' .. serial .. ' ' .. item)
end
-- Grants the head of the queue while it fits. Returns the owner, the waiter and the cost of the new head.
local function drain()
  while waiting > 0 do
    flush_queue()
    local granted, free_slots = 0, concurrency < 0 and 32 or min(32, concurrency - active)
    for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, max(0, free_slots - 1))) do
      local recipient, serial, cost = match(waiter, '^(.*)%.(%S+) (.*)$')
      if not fits(limits[recipient] or 0, tonumber(cost)) then
        if granted > 0 then call('ZREMRANGEBYRANK', QUEUE, 0, granted - 1) end
        return recipient, waiter, tonumber(cost)
      end
      granted, placed[waiter] = granted + 1, nil
      subtract_waiter(cost)
      grant(recipient, serial, cost)
    end
    call('ZREMRANGEBYRANK', QUEUE, 0, granted - 1)
  end
end

-- Renewals come first, then the expiry of leases and owners.
local unknown = {}
index = BEGIN
while ARGV[index] == 'K' do
  local id = id_at[index]
  renewed[id] = true
  if not held[id] then unknown[#unknown + 1] = index
  elseif match(held[id], '^%S+ (%S+)') == match(ARGV[index + 2], '^%S+') then put_lease(id, now + ttl, ARGV[index + 2])
  else
    -- The client has sent the request twice, and the holder has the other grant.
    release(id, match(held[id], '^%S+ (%S+)'))
    notify(owner, 'X ' .. ARGV[index + 1])
  end
  index = index + 3
end
if active > 0 and now >= next_expiry then
  next_expiry = FOREVER
  local all = call('HGETALL', LEASES)
  for at = 1, #all, 2 do
    local expiry, slot = match(all[at + 1], '^(%d+) (%d+)')
    expiry = renewed[all[at]] and now + ttl or tonumber(expiry)
    if expiry <= now then release(all[at], slot) else next_expiry = min(next_expiry, expiry) end
  end
end
local function purge(matches, event)
  flush_queue()
  for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
    local recipient, serial, cost = match(waiter, '^(.*)%.(%S+) (.*)$')
    if matches(recipient, tonumber(cost)) then
      leave(waiter, cost)
      if event then notify(recipient, event(serial)) end
    end
  end
end
if waiting > 0 then
  local dead = {}
  for _, recipient in ipairs(call('ZRANGEBYSCORE', OWNERS, '-inf', now)) do
    if recipient ~= owner then
      dead[recipient] = true
      call('ZREM', OWNERS, recipient)
      limits[recipient] = nil
    end
  end
  if next(dead) then purge(function(recipient) return dead[recipient] end) end
end

-- The latest new rate applies to all.
local function oversize(serial) return format('O %s %.17g', serial, burst) end
if not packed or configures == '1' then
  local old_capacity, old_rate, old_burst = capacity, rate, burst
  capacity, period, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
  rate = capacity / period
  if not packed or old_capacity < 0 or capacity < 0 then
    tokens, since, ignored = burst, now, grants
    base, base_at, base_rate, base_burst, folded, peaks = tokens, since, rate, burst, grants, {}
    if packed then call('DEL', LOG) end
  elseif rate ~= old_rate or burst ~= old_burst then
    local at = max(now, since)
    tokens, since, grants = min(burst, old_burst, tokens + (at - since) * old_rate), at, grants + 2
    logged = { struct.pack('>dd', at, -1), struct.pack('>dd', rate, burst) }
  end
  if waiting > 0 and burst < old_burst then purge(function(_, cost) return cost > burst end, oversize) end
end

-- Restores renewed leases that Redis has lost, if their slots are free.
if unknown[1] then flush_slots() end
for _, at in ipairs(unknown) do
  local serial, item = ARGV[at + 1], ARGV[at + 2]
  local slot = match(item, '^%d+') - 1
  if call('GETBIT', SLOTS, slot) == 0 then
    call('SETBIT', SLOTS, slot, 1)
    created[SLOTS] = true
    put_lease(owner .. '.' .. serial, now + ttl, item)
    active = active + 1
  else notify(owner, 'X ' .. serial) end
end

-- The other commands, in order. Without a change, no waiter fits that did not fit before.
local is_waiting, changed = false, true
while ARGV[index] do
  local kind, serial = ARGV[index], ARGV[index + 1]
  local id = id_at[index]
  if kind == 'A' or kind == 'W' then
    local written, last = ARGV[index + 2], tonumber(ARGV[index + 3])
    local cost, waiter = tonumber(written), waiting > 0 and id .. ' ' .. written
    -- A request without a timeout joins behind all waiters, so it needs no drain.
    if kind == 'A' and changed and waiting > 0 and (last >= 0 or max_queue >= 0) then
      drain()
      changed = false
    end
    if held[id] then
      -- The grant was lost on its way, or the client has sent the request twice.
      local item = match(held[id], ' (.-) *$')
      put_lease(id, now + ttl, item)
      notify(owner, 'G ' .. serial .. ' ' .. item)
    elseif waiter and placed[waiter] then
      is_waiting = true
      if kind == 'A' then notify(owner, format('Q %s %.0f', serial, placed[waiter])) end
    elseif cost > burst then notify(owner, oversize(serial))
    elseif kind == 'W' then
      join(waiter or id .. ' ' .. written, cost, last)
      ticket, is_waiting, changed = max(ticket, last), true, true
      -- This instant voids earlier grants.
      notify(owner, format('Q %s %s %.0f', serial, ARGV[index + 3], now))
    elseif waiting == 0 and fits(concurrency, cost) then grant(owner, serial, written)
    else
      local wait = ready_at(max(now, paused), queued + cost) - now
      local late = last == 0 or (last > 0 and last * (1 + 1e-9) < wait)
      if late or (max_queue >= 0 and waiting >= max_queue) then
        notify(owner, format('%s %s %.0f %d %d', late and 'L' or 'F', serial, wait, active, waiting))
      else
        ticket, is_waiting = max(ticket + 1, now), true
        join(waiter or id .. ' ' .. written, cost, ticket)
        notify(owner, format('Q %s %.0f', serial, ticket))
      end
    end
  elseif kind == 'R' then
    local waiter = id .. ' ' .. ARGV[index + 2]
    if held[id] then release(id, match(held[id], '^%S+ (%S+)'))
    -- A late renewal may have put it back into the queue.
    elseif waiting > 0 and (placed[waiter] or (placed[waiter] == nil and call('ZSCORE', QUEUE, waiter))) then
      leave(waiter, ARGV[index + 2])
    end
    changed = true
  elseif kind == 'C' then
    local waiter = id .. ' ' .. ARGV[index + 2]
    if placed[waiter] then leave(waiter, ARGV[index + 2])
    elseif held[id] then
      local slot, granted, cost, number = match(held[id], '^%S+ (%S+) (%S+) (%S+) (%S+)')
      release(id, slot)
      settle(0, tonumber(cost), tonumber(granted), tonumber(number))
    end
    changed = true
  elseif kind == 'S' then
    settle(tonumber(serial), tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3]), tonumber(ARGV[index + 4]))
    changed = true
  elseif kind == 'P' then
    drain()
    paused, changed = min(FOREVER, max(paused, now + tonumber(serial))), false
  elseif kind == 'U' then
    paused, changed = 0, true
  end
  index = index + WORDS[kind]
end
local head_owner, head_waiter, cost = drain()
flush_queue()
flush_log()
trim_log()

-- Every call of an owner with waiters renews the owner.
local has_waiters = waiting > 0 and (is_waiting or call('ZSCORE', OWNERS, owner))
if has_waiters then
  if call('ZADD', OWNERS, now + ttl, owner) == 1 then created[OWNERS] = true end
  extend_life()
else limits[owner] = nil end

if waiting == 0 and waited_before > 0 then
  limits = {}
  call('DEL', OWNERS)
end

-- New leases are written before old ones are deleted: an empty hash would lose its expiry.
if leased[1] then
  if held_before == 0 then created[LEASES] = true end
  local pairs = {}
  for _, id in ipairs(leased) do
    if held[id] then
      pairs[#pairs + 1] = id
      pairs[#pairs + 1] = held[id]
    end
  end
  call_in_parts('HSET', LEASES, pairs)
end
local deleted = {}
for _, id in ipairs(dropped) do
  -- An expired lease may be granted again in the same batch.
  if not held[id] then deleted[#deleted + 1] = id end
end
call_in_parts('HDEL', LEASES, deleted)
if active == 0 then
  if freed[1] then call('DEL', SLOTS) end
else flush_slots() end

-- The owner of the head sets a timer. All others watch for the expiry of this owner.
if head_waiter then
  local at, limit = ready_at(max(now, paused), cost), limits[head_owner] or 0
  -- Without a free slot, the head can be due when the next lease expires.
  if limit >= 0 and active >= limit then at = max(at, next_expiry) end
  if head_owner == owner then reply[1] = format('%.0f %.0f', at - now, at)
  else
    local expires = max(now + 1, tonumber(call('ZSCORE', OWNERS, head_owner) or now))
    reply[1] = format('%.0f %.0f', expires - now, expires)
    if head_waiter ~= head or at < due then notify(head_owner, format('H %.0f %.0f', at - now, at)) end
  end
  head, due = head_waiter, at
else head, due = '', 0 end

for recipient, events in pairs(messages) do
  local connection, instance = match(recipient, '^(.-)%.(.*)$')
  call('PUBLISH', 'headgate:' .. connection, instance .. '\\n' .. table.concat(events, '\\n'))
end

-- A state that equals a new one is deleted; any other expires when it would equal a new one.
local needed, busy = max(now, paused), active > 0 or waiting > 0
if capacity >= 0 and level(now) < burst then needed = max(needed, since + (burst - tokens) / rate) end
if busy then needed = max(needed, last_expiry)
else
  last_expiry = 0
  if needed <= now then
    call('DEL', unpack(KEYS))
    return reply
  end
end
needed = min(FOREVER, ceil(needed))
-- The keys also expire while the clock is behind.
local expiry_changed = not busy or clock < now or needed > keys_expiry or needed < keys_expiry - 2 * ttl
if expiry_changed then keys_expiry = needed end
local span = ${keyLifetime}
call('SET', STATE, cmsgpack.pack('headgate', now, ticket, capacity, period, burst, tokens, since, paused, grants,
  created_at, queued, last_expiry, keys_expiry, head, due, next_expiry, limits,
  base, base_at, base_rate, base_burst, folded, ignored, peaks), 'PX', span)
if expiry_changed and not busy then
  if capacity >= 0 then call('PEXPIRE', LOG, span) end
  return reply
end
for _, key in ipairs({ QUEUE, LEASES, OWNERS, SLOTS, LOG }) do
  if expiry_changed or created[key] then call('PEXPIRE', key, span) end
end
return reply
`;

export const STEP: string = createStep();
