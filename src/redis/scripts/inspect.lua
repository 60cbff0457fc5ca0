-- Reads one page of the state of a gate, and changes nothing. `step.lua` and its parts describe the keys.
--
-- KEYS   those of `step.lua`
-- ARGV   1 the clock of a test (empty: TIME)   2 the part to read: empty at first, then `leases` or `waiters`
--        3 the last line that the caller has received
-- REPLY  Lines. The first one: `now paused`, then a word for the level of each rate: `level` or `level;name=`. Without
--        a state, `now` alone. The second one: the arguments 2 and 3 of the next call, or empty at the end. Then
--        `L owner slots granted cost` for each lease, and `W owner ticket cost` for each waiter, in order. An owner
--        that has expired is left out.
local packed, clock = redis.call('GET', KEYS[1]), nil
local given_clock, confirmed, ttl = tonumber(ARGV[1]), 0, nil
--- @include state
local PAGE = 200
if not packed or not known then return format('%.0f\n', now) end
-- The last ticket before each owner joined; false for an owner that has expired.
local births = {}
local function birth_of(name)
  if births[name] == nil then
    local record, place
    if owners_apart then record, place = call('HGET', OWNERS, name), 1
    else
      record, place = owners, find(owners, '\n' .. name .. ' ', 1, true)
      place = place and place + #name + 2
    end
    local _, expiry, birth
    if record and place then _, expiry, _, _, _, _, birth = struct.unpack('>ddddddd', record, place) end
    births[name] = (expiry or 0) > expired_at and birth
  end
  return births[name]
end
local part, last = ARGV[2], ARGV[3]
local lines, following = {}, ''
if part ~= 'waiters' then
  local found, count = {}, 0
  if leases_apart then
    found = call('ZRANGEBYLEX', LEASES, part == 'leases' and '(' .. last or '-', '+', 'LIMIT', 0, PAGE)
    count = #found
  else for line in string.gmatch(leases, '[^\n]+') do found[#found + 1] = line end end
  for _, line in ipairs(found) do
    local name, slot, granted, cost = match(line, '^(%S+)%.%S+ (%S+) (%S+) (%S+)')
    if birth_of(name) then lines[#lines + 1] = table.concat({ 'L', name, slot, granted, cost }, ' ') end
  end
  following = count == PAGE and 'leases ' .. found[PAGE] or queue_length > 0 and 'waiters -inf' or ''
else
  local found = {}
  if queue_apart then
    found = call('ZRANGEBYSCORE', QUEUE, last == '-inf' and last or '(' .. last, '+inf', 'WITHSCORES', 'LIMIT', 0, PAGE)
  else
    for member, place in string.gmatch(sub(queue, head_at, queue_till), '\n(%S+ %S+) (%d+)') do
      found[#found + 1], found[#found + 2] = member, place
    end
  end
  for index = 1, #found, 2 do
    local name, cost = match(found[index], '^(%S+)%.%S+ (%S+)')
    local birth, place = birth_of(name), tonumber(found[index + 1])
    -- A waiter from before its owner joined is of an owner of the same name that was removed. The queue may have become
    -- a text since the previous page.
    if birth and place > tonumber(last) and (place > birth or place < created_at) then
      lines[#lines + 1] = table.concat({ 'W', name, found[index + 1], cost }, ' ')
    end
  end
  following = #found == 2 * PAGE and 'waiters ' .. found[2 * PAGE] or ''
end
local first, _ = format('%.0f %.0f', now, paused), nil
if terms == '' then
  if capacity >= 0 then first = first .. format(' %.17g', min(burst, tokens + max(0, now - since) * rate)) end
else
  local packs, place, index = settlement ~= '' and { cmsgpack.unpack(settlement) } or {}, 1, 0
  while place <= #levels do
    local tag
    tokens, since, rate, burst, _, tag, place = struct.unpack('>ddddds', levels, place)
    index = index + 1
    local found, pack = min(burst, tokens + max(0, now - since) * rate), packs[index]
    if pack and type(pack[1]) == 'table' then
      -- A window: the counters that still count.
      found = burst
      for entry, last in ipairs(pack[1]) do
        if last + rate > now then found = found - pack[2][entry] end
      end
    end
    first = first .. format(' %.17g', found) .. tag
  end
end
return table.concat({ first, following, unpack(lines) }, '\n')
