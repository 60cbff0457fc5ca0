-- The one decision: which waiter is granted. The fast path and the queue path decide in the same way.
--
-- Needs all above. Defines:
local MOST_GRANTS = 500
local head_record, head_costs, head_name, head_ticket, now_text
-- The waiters that were read from the head on: the entries of `row` from `row_from` on.
local row, row_from
local function fits(limit, costs)
  return (limit < 0 or active + costs.slots <= limit) and now >= paused
    and (not rates[1] or all_ready_at(now, costs) <= now)
end
local function grant(recipient, record, serial, cost, costs)
  prepare_lease(costs.slots)
  local slot = take_slots(costs.slots)
  if rates[1] then spend(costs) end
  now_text = now_text or digits(now)
  local item = slot .. ' ' .. now_text .. ' ' .. cost .. ' ' .. (rates[1] and digits(grants) or '0')
  add_lease(recipient .. '.' .. serial, item, costs.slots)
  record.leases, record.is_changed = record.leases + 1, true
  notify(recipient, 'G ' .. serial .. ' ' .. item)
end
-- Grants the head of the queue while it fits, and finds the new head. Waiters of removed owners are skipped. At most
-- MOST_GRANTS waiters leave the queue in one call, fewer if they take several slots each.
local function drain()
  head_name = nil
  local passed_in_all = 0
  flush_queue()
  while waiting > 0 do
    local found, passed, is_over = front, 0, passed_in_all >= MOST_GRANTS
    if not found then
      local free_slots = concurrency < 0 and 32 or max(1, min(32, concurrency - active))
      found = read_front(free_slots + 2)
      -- The counts contradict the queue. Without this exit, the script would never end.
      if not found[1] then return end
    end
    front = nil
    for index = 1, #found, 2 do
      local member = found[index]
      local name, serial, cost = match(member, '^(.*)%.(%S+) (.*)$')
      local record, costs = find_owner(name), parse(cost)
      tickets[member] = tonumber(found[index + 1])
      local is_alive = record and find_ticket(member, record)
      if is_alive and (passed_in_all >= MOST_GRANTS or not fits(record.limit, costs)) then
        head_record, head_costs, head_name, head_ticket = record, costs, name, tickets[member]
        row, row_from = found, index
        is_unfinished = is_unfinished or passed_in_all >= MOST_GRANTS
        break
      end
      tickets[member] = false
      passed, passed_in_all, queue_length = passed + 1, passed_in_all + max(1, costs.slots), queue_length - 1
      add_queued(costs, -1)
      if is_alive then
        subtract_waiter(record, costs)
        grant(name, record, serial, cost, costs)
      end
    end
    if passed > 0 then drop_front(passed) elseif head_name then front = found end
    if head_name then return end
    -- The bound was reached before this part of the queue, and the part has no living waiter.
    if is_over then
      is_unfinished = true
      return
    end
    flush_queue()
  end
end
