-- Applies the commands of the batch, in order, and grants every waiter that fits.
--
-- Needs all above. Defines `has_ended`: whether the caller was removed, because it holds nothing and its flags have an
-- `e`.
-- Without a change, no waiter fits that did not fit before.
local index, changed = 1, true
-- The instant of the latest reset; nil before it was read.
local reset_at
while is_duplicate and words[index] do
  local word, serial = words[index], words[index + 1]
  if word == 'A' or word == 'B' or word == 'W' then
    local id = owner .. '.' .. serial
    local item, place = find_lease(id), find_ticket(id .. ' ' .. words[index + 2], self)
    if item then notify(owner, 'g ' .. serial .. ' ' .. item)
    elseif place then notify(owner, format('Q %s %.0f', serial, place))
    else notify(owner, 'N ' .. serial) end
  end
  index = index + WORDS[word]
end
while words[index] do
  local word, serial = words[index], words[index + 1]
  if word == 'A' or word == 'B' then
    local written, timeout = words[index + 2], tonumber(words[index + 3])
    local costs = parse(written)
    -- A request that is not refused joins behind all waiters, so it needs no drain. Without a rate, only the pause
    -- decides whether a timeout is too short.
    if changed and waiting > 0 and (timeout == 0 or max_queue >= 0 or timeout > 0 and rates[1]) then
      drain()
      changed = false
    end
    if waiting == 0 and fits(concurrency, costs) and not is_oversize(costs) then
      grant(owner, self, serial, written, costs)
    elseif is_oversize(costs) then notify(owner, oversize_event(serial, costs))
    else
      local opens_at = max(now, paused)
      local wait = (rates[1] and all_ready_at(opens_at, costs, true) or opens_at) - now
      local late = timeout == 0 or (timeout > 0 and timeout * (1 + 1e-9) < wait)
      if late or (max_queue >= 0 and waiting >= max_queue) then
        notify(owner, format('%s %s %.0f %d %d', late and 'L' or 'F', serial, wait, active, waiting))
      else
        local place = next_ticket()
        local text = join_queue(owner .. '.' .. serial .. ' ' .. written, self, costs, place)
        notify(owner, 'Q ' .. serial .. ' ' .. text)
      end
    end
  elseif word == 'R' then
    local id = owner .. '.' .. serial
    local item = find_lease(id)
    if item then
      remove_lease(id, item)
      self.leases = self.leases - 1
    end
    changed = true
  elseif word == 'C' then
    local member = owner .. '.' .. serial .. ' ' .. words[index + 2]
    local is_waiting = find_ticket(member, self)
    local id = not is_waiting and owner .. '.' .. serial
    local item = id and find_lease(id)
    if is_waiting then leave_queue(member, self, parse(words[index + 2]))
    elseif item then
      local _, granted, cost, number = match(item, '^(%S+) (%S+) (%S+) (%S+)')
      remove_lease(id, item)
      self.leases = self.leases - 1
      if settle then settle('0', cost, tonumber(granted), tonumber(number)) end
    end
    changed = true
  elseif word == 'S' then
    if settle then
      settle(serial, words[index + 2], tonumber(words[index + 3]), tonumber(words[index + 4]))
    end
    changed = true
  elseif word == 'T' then
    -- The waiters that fit before the correction are granted by the old level.
    drain()
    if correct then (words[index + 2] == '1' and lower or correct)(serial) end
    changed = true
  elseif word == 'P' then
    drain()
    paused, changed, is_withdrawn = min(FOREVER, max(paused, now + tonumber(serial))), false, true
  elseif word == 'U' then
    paused, changed = 0, true
  elseif word == 'K' then
    local id, item = owner .. '.' .. serial, words[index + 2]
    local text, granted = match(item, '^(%S+) (%d+)')
    if not reset_at then
      local last = call('ZRANGE', KEYS[8], -1, -1)[1]
      reset_at = tonumber(last and match(last, '^@(%d+)') or -1)
    end
    -- The message of the reset may be late, or lost.
    if tonumber(granted) <= reset_at then notify(owner, 'X ' .. serial)
    elseif not find_lease(id) then
      local numbers, highest = {}, 0
      for slot in string.gmatch(text, '[1-9]%d*') do
        numbers[#numbers + 1], highest = tonumber(slot), max(highest, tonumber(slot))
      end
      prepare_lease(#numbers, highest)
      if occupy_slots(numbers) then
        add_lease(id, item, #numbers)
        self.leases = self.leases + 1
      else notify(owner, 'X ' .. serial) end
    end
  elseif word == 'W' then
    local id, written, place = owner .. '.' .. serial, words[index + 2], tonumber(words[index + 3])
    local item, member, costs = find_lease(id), id .. ' ' .. written, parse(written)
    local present = find_ticket(member, self)
    if item then notify(owner, 'g ' .. serial .. ' ' .. item)
    elseif present then notify(owner, format('Q %s %.0f', serial, present))
    elseif is_oversize(costs) then notify(owner, oversize_event(serial, costs))
    else
      -- A ticket of an earlier life of the state keeps its place. It may be before all, so no row is known any more.
      if place < created_at then ticket, row_owner, is_withdrawn = max(ticket, place), '', true
      else place = next_ticket() end
      join_queue(member, self, costs, place)
      changed = true
      -- This instant voids earlier grants.
      notify(owner, format('Q %s %.0f %.0f', serial, place, now))
    end
  end
  index = index + WORDS[word]
end
drain()
if rates[1] then
  flush_log()
  trim_log()
end
flush_leases()
local has_ended = find(flags, 'e', 1, true) and not is_duplicate and self.leases == 0 and self.waiters == 0
if has_ended then forget_owner(owner) end
if waiting == 0 then purge_from = -1 end
if owner_count == 0 then next_expiry, last_expiry = FOREVER, 0 end
