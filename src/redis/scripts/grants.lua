-- The one decision: which waiter is granted.
--
-- Needs all above. Defines:
local MOST_GRANTS = 500
local head_record, head_cost, head_name, head_ticket
-- The waiters that were read from the head on: the entries of `row` from `row_from` on.
local row, row_from
local function fits(limit, cost)
  return (limit < 0 or active < limit) and now >= paused and (capacity < 0 or ready_at(now, cost) <= now)
end
local function grant(recipient, record, serial, cost)
  prepare_lease()
  local slot = take_slot()
  if capacity >= 0 then
    grants, tokens, since = grants + 1, level(now) - cost, max(now, since)
    logged[#logged + 1] = struct.pack('>dd', since, cost)
  end
  local item = format('%d %.0f %s %.0f', slot, now, cost, capacity < 0 and 0 or grants)
  add_lease(recipient .. '.' .. serial, item)
  record.leases, record.is_changed = record.leases + 1, true
  notify(recipient, 'G ' .. serial .. ' ' .. item)
end
-- Grants the head of the queue while it fits, and finds the new head. Waiters of removed owners are skipped. At most
-- MOST_GRANTS waiters leave the queue in one call.
local function drain()
  head_name = nil
  local passed_in_all = 0
  flush_queue()
  while waiting > 0 do
    local found, passed = front, 0
    if not found then
      local free_slots = concurrency < 0 and 32 or max(1, min(32, concurrency - active))
      found = call('ZRANGE', QUEUE, 0, free_slots + 1, 'WITHSCORES')
    end
    front = nil
    for index = 1, #found, 2 do
      local member = found[index]
      local name, serial, cost = match(member, '^(.*)%.(%S+) (.*)$')
      local record = find_owner(name)
      tickets[member] = tonumber(found[index + 1])
      local is_alive = record and find_ticket(member, record)
      if is_alive and (passed_in_all >= MOST_GRANTS or not fits(record.limit, tonumber(cost))) then
        head_record, head_cost, head_name, head_ticket = record, tonumber(cost), name, tickets[member]
        row, row_from = found, index
        is_unfinished = is_unfinished or passed_in_all >= MOST_GRANTS
        break
      end
      tickets[member] = false
      passed, passed_in_all, queue_length = passed + 1, passed_in_all + 1, queue_length - 1
      if is_alive then
        subtract_waiter(record, cost)
        grant(name, record, serial, cost)
      end
    end
    if passed > 0 then call('ZREMRANGEBYRANK', QUEUE, 0, passed - 1) elseif head_name then front = found end
    if head_name then return end
    if passed_in_all >= MOST_GRANTS and waiting > 0 then
      is_unfinished = true
      return
    end
    flush_queue()
  end
end
