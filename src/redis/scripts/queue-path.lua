-- The queue path, for a gate without a rate: a batch of a known owner while callers wait, or with requests that must
-- wait or are refused. The batch has only releases, requests, and cancellations of grants and of the waiter at the head
-- of the queue. Each permit has one slot. The queue path decides as the full step does. Like the fast path, it reads
-- and writes only the string of the state, and makes no function. Any other batch is left to the full step, and nothing
-- is changed for it.
--
-- Needs all arguments, `packed` and `clock`. May set `clock`.
repeat
  local byte, find, match, sub, format = string.byte, string.find, string.match, string.sub, string.format
  local unpack, pack = struct.unpack, struct.pack
  local kind = packed and sub(packed, 1, 10)
  if kind ~= 'headgate2q' and kind ~= 'headgate2w' or flags ~= '-' and flags ~= 'l' then break end
  local own_at = find(packed, '\n' .. owner .. ' ', 235, true)
  if not own_at then break end
  own_at = own_at + #owner + 2
  local at, next_expiry, last_expiry, active, owners_size, leases_size, slots_size, permissions_size, version =
    unpack('>ddddI4I4I4I4c16', packed, 11)
  -- No waiter is of a removed owner, so `waiting` is also the length of the queue.
  local keys_expiry, _, _, ticket, paused, created_at, waiting, queued, _, owner_count, due, row_end =
    unpack('>dddddddddddd', packed, 123)
  local next_batch, _, earlier_limit, held, waiters, cost_of_waiters = unpack('>dddddd', packed, own_at)
  clock = clock or given_clock
  if not clock then
    local time = redis.call('TIME')
    clock = time[1] * 1000000 + time[2]
  end
  local now, expiry = clock, clock + ttl
  if expiry > last_expiry then last_expiry = expiry end
  -- The full step removes expired owners, and prolongs the keys.
  if batch ~= next_batch or now < at or now >= next_expiry or last_expiry > keys_expiry then break end
  local leases_at = 235 + owners_size
  local slots_at = leases_at + leases_size
  local permissions_at = slots_at + slots_size
  local permissions = sub(packed, permissions_at, permissions_at + permissions_size - 1)
  local own_record = '\n' .. (flags == 'l' and 'L' or 'U') .. owner .. '\n'
  local record_from, record_till = find(permissions, own_record, 1, true)
  local others = record_from and sub(permissions, 1, record_from) .. sub(permissions, record_till + 1) or permissions
  -- The full step makes and withdraws permissions to linger.
  if find(others, '\nL', 1, true) or flags == 'l' and not record_from then break end
  local head_owner, row_owner, _, _, _, surplus, queue_size, head_at =
    unpack('>sssdddI4', packed, permissions_at + permissions_size)
  local owners, leases = sub(packed, 235, leases_at - 1), sub(packed, leases_at, slots_at - 1)
  local slots, queue_till = sub(packed, slots_at, permissions_at - 1), head_at + queue_size - 1

  local commands, at_word, prefix, now_text = ARGV[1], commands_at, '\n' .. owner .. '.', format('%.0f', now)
  -- The waiters that join: their serials, costs and tickets. The events of the reply. Whether a waiter may fit now.
  local joined, events, changed = {}, {}, earlier_limit ~= concurrency
  while at_word <= #commands do
    local word, next_word, released = byte(commands, at_word), nil, nil
    if word == 65 then -- A
      local _, till, serial, cost, timeout = find(commands, '^(%S+)\n(%S+)\n(%S+)\n', at_word + 2)
      local price, is_full = cost == '1' and 1 or tonumber(cost), concurrency >= 0 and active >= concurrency
      next_word = till + 1
      if waiting == 0 and not is_full then
        local slot = find(slots, '0', 1, true) or #slots + 1
        if slot > 64 then break end
        local item = ' ' .. slot .. ' ' .. now_text .. ' ' .. cost .. ' 0'
        leases, events[#events + 1] = leases .. prefix .. serial .. item, '\nG ' .. serial .. item
        slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1)
        active, held = active + 1, held + 1
      elseif changed and waiting > 0 and (max_queue >= 0 or timeout == '0') then
        -- The waiters that fit are granted before the request is decided.
        break
      elseif timeout == '0' or max_queue >= 0 and waiting >= max_queue then
        events[#events + 1] = format('\n%s %s 0 %d %d', timeout == '0' and 'L' or 'F', serial, active, waiting)
      -- The full step moves more waiters into QUEUE, see MOST_INLINE.
      elseif waiting >= 64 then break
      else
        local earlier = ticket
        ticket = ticket + 1
        if ticket < now then ticket = now end
        if waiting == 0 then row_owner, row_end = owner, ticket
        elseif row_owner == owner and row_end == earlier then row_end = ticket end
        -- In two halves, as `digits` of the full step prints it.
        local text = format('%d%06d', ticket / 1000000, ticket % 1000000)
        joined[#joined + 1], events[#events + 1] = serial .. ' ' .. cost .. ' ' .. text, '\nQ ' .. serial .. ' ' .. text
        waiting, queued, waiters, cost_of_waiters = waiting + 1, queued + price, waiters + 1, cost_of_waiters + price
      end
    elseif word == 67 then -- C
      local _, till, serial, cost = find(commands, '^(%S+)\n(%S+)\n', at_word + 2)
      local price = cost == '1' and 1 or tonumber(cost)
      local from, line_till = find(packed, prefix .. serial .. ' ' .. cost .. ' ', head_at, true)
      if not price then break end
      next_word, changed = till + 1, true
      if from == head_at then
        _, line_till = find(packed, '^%d+', line_till + 1)
        head_at, waiting, waiters = line_till + 1, waiting - 1, waiters - 1
        queued, cost_of_waiters = waiting > 0 and queued - price or 0, waiters > 0 and cost_of_waiters - price or 0
      elseif joined[1] or from and from <= queue_till then break
      else released = serial end
    elseif word == 82 then -- R
      local _, till, serial = find(commands, '^(%S+)\n', at_word + 2)
      next_word, changed, released = till + 1, true, serial
    else break end
    local from, id_till
    if released then from, id_till = find(leases, prefix .. released .. ' ', 1, true) end
    if from then
      local _, line_till, slot = find(leases, '^(%d+) [^\n]*', id_till + 1)
      if not slot or slot == '0' then break end
      leases = sub(leases, 1, from - 1) .. sub(leases, line_till + 1)
      slots = sub(slots, 1, slot - 1) .. '0' .. sub(slots, slot + 1)
      active, held = active - 1, held - 1
    end
    at_word = next_word
  end
  if at_word <= #commands then break end

  -- Grants the head of the queue while it fits.
  local queue, queue_at, messages = sub(packed, head_at, queue_till), 1, {}
  if joined[1] then queue = queue .. prefix .. table.concat(joined, prefix) end
  local head_name, head_ticket, head_expiry
  while waiting > 0 do
    local _, till, name, serial, cost, place = find(queue, '^\n(%S+)%.(%S+) (%S+) (%d+)', queue_at)
    local price, slot = tonumber(cost), find(slots, '0', 1, true) or #slots + 1
    local limit, record_at, next_of, expiry_of, held_of, waiters_of, cost_of = concurrency, nil, nil, expiry
    if name ~= owner then
      record_at = find(owners, '\n' .. name .. ' ', 1, true) + #name + 2
      next_of, expiry_of, limit, held_of, waiters_of, cost_of = unpack('>dddddd', owners, record_at)
    end
    if not price then break end
    if limit >= 0 and active >= limit then
      head_name, head_ticket, head_expiry = name, tonumber(place), expiry_of
      break
    end
    if slot > 64 then break end
    local item = ' ' .. slot .. ' ' .. now_text .. ' ' .. cost .. ' 0'
    local event = '\nG ' .. serial .. item
    leases = leases .. '\n' .. name .. '.' .. serial .. item
    slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1)
    active, queue_at, waiting, queued = active + 1, till + 1, waiting - 1, waiting > 1 and queued - price or 0
    if record_at then
      messages[name] = (messages[name] or '') .. event
      cost_of = waiters_of > 1 and cost_of - price or 0
      owners = sub(owners, 1, record_at - 1)
        .. pack('>dddddd', next_of, expiry_of, limit, held_of + 1, waiters_of - 1, cost_of)
        .. sub(owners, record_at + 48)
    else
      events[#events + 1] = event
      held, waiters, cost_of_waiters = held + 1, waiters - 1, waiters > 1 and cost_of_waiters - price or 0
    end
  end
  -- The full step grants permits of several slots and more than 64 slots, and waits for a limit that was lowered.
  if waiting > 0 and not head_name or concurrency >= 0 and active > concurrency then break end
  if flags == 'l' and waiting > waiters then break end

  local outcome, wake, up_to = flags == 'l' and 'L ' or 'A ', '', 0
  if head_name then
    -- A slot becomes free at the latest when the next owner expires. The owner of the head sets a timer for this. All
    -- other owners set a timer for the expiry of the owner of the head.
    local instant = next_expiry
    if head_name == owner then
      if row_owner ~= owner or row_end < head_ticket then
        local from = queue_at
        row_owner = owner
        while true do
          local _, till, name, place = find(queue, '^\n(%S+)%.%S+ %S+ (%d+)', from)
          if name ~= owner then break end
          row_end, from = tonumber(place), till + 1
        end
      end
      up_to = row_end
    else
      if head_name ~= head_owner or instant ~= due then
        messages[head_name] = (messages[head_name] or '') .. format('\nH %.0f %.0f', instant - now, instant)
      end
      instant = head_expiry > now and head_expiry or now + 1
    end
    wake = format(' %.0f %.0f %.0f', up_to, instant - now, instant)
    head_owner, due = head_name, next_expiry
  else head_owner, due = '', 0 end
  -- The permission of this reply replaces the permission of the latest one. At most 64 permissions are on record.
  if flags == '-' then
    permissions = others == '\n' and '' or others
    if up_to > 0 then
      if permissions == '' then permissions = '\n' end
      local _, count = string.gsub(permissions, '\n', '')
      if count > 64 then break end
      permissions = permissions .. 'U' .. owner .. '\n'
    end
  end
  for name, texts in pairs(messages) do
    local connection, instance = match(name, '^(.-)%.(.*)$')
    redis.pcall('PUBLISH', 'headgate:' .. connection, instance .. texts)
  end
  if active == 0 then slots = '' end
  local own_place = own_at - 234
  redis.call('SET', KEYS[1], (waiting > 0 and 'headgate2w' or 'headgate2q')
    .. pack('>ddddI4I4I4I4', now, next_expiry, last_expiry, active, owners_size, #leases, #slots, #permissions)
    .. version .. sub(packed, 75, 146)
    .. pack('>ddddddddd', ticket, paused, created_at, waiting, queued, waiting, owner_count, due, row_end)
    .. (waiting > 0 and sub(packed, 219, 226) or pack('>d', -1)) .. sub(packed, 227, 234)
    .. sub(owners, 1, own_place - 1)
    .. pack('>dddddd', next_batch + 1, expiry, concurrency, held, waiters, cost_of_waiters)
    .. sub(owners, own_place + 48) .. leases .. slots .. permissions
    .. pack('>sssdddI4', head_owner, row_owner, '', 0, 0, surplus, #queue - queue_at + 1)
    .. sub(queue, queue_at) .. sub(packed, queue_till + 1),
    'KEEPTTL')
  return outcome .. version .. wake .. table.concat(events)
until true
