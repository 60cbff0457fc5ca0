-- The queue of waiters: QUEUE is a sorted set of `owner.serial cost` by ticket. A ticket is an instant, made unique, so
-- waiters that return after a loss of all data return in their old order. A waiter whose owner was removed stays until
-- it reaches the head, and counts only in `queue_length`.
--
-- Needs the owners. Defines:
-- The ticket of each waiter that this batch has read or has changed (false: it does not wait).
local tickets, joined, left = {}, {}, {}
local function find_ticket(member, record)
  local found = tickets[member]
  -- A waiter from before its owner joined is of an owner of the same name that was removed.
  if found and found <= record.birth and found >= created_at then return false end
  return found
end
-- Adds the costs of a waiter that has joined, or with the sign -1 of one that has left, to those of the queue.
local function add_queued(costs, sign)
  for index, rate in ipairs(rates) do
    if rate.tag ~= '' then rate.queued = queue_length > 0 and max(0, rate.queued + sign * costs[index]) or 0 end
  end
end
local function subtract_waiter(record, costs)
  local cost = costs.main
  record.waiters, record.cost, record.is_changed = record.waiters - 1, record.cost - cost, true
  waiting, queued = waiting - 1, queued - cost
  if record.waiters == 0 then record.cost = 0 end
  if waiting == 0 then queued = 0 end
end
local function join_queue(member, record, costs, place)
  local cost = costs.main
  if queue_length == 0 then keys_expiry = 0 end
  if place < created_at then front = nil end
  if not tickets[member] then queue_length = queue_length + 1 end
  tickets[member], left[member], joined[#joined + 1] = place, nil, member
  record.waiters, record.cost, record.is_changed = record.waiters + 1, record.cost + cost, true
  waiting, queued = waiting + 1, queued + cost
  add_queued(costs, 1)
end
local function leave_queue(member, record, costs)
  tickets[member], left[member], queue_length = false, true, queue_length - 1
  add_queued(costs, -1)
  subtract_waiter(record, costs)
end
-- Takes the tail of the queue. Waiters at the head of the queue that stand in a row are one row with the next one.
local function next_ticket()
  local earlier = ticket
  ticket = max(ticket + 1, now)
  if waiting == 0 then row_owner, row_end = owner, ticket
  elseif row_owner == owner and row_end == earlier then row_end = ticket end
  return ticket
end
local function flush_queue()
  if joined[1] then
    -- In reverse order, which is faster: Redis searches the place of a waiter from the head of a short queue.
    local words = {}
    for index = #joined, 1, -1 do
      local member = joined[index]
      if tickets[member] then words[#words + 1], words[#words + 2] = tickets[member], member end
    end
    call_in_parts('ZADD', QUEUE, words)
    joined = {}
  end
  if next(left) then
    local members = {}
    for member in pairs(left) do members[#members + 1] = member end
    front = nil
    call_in_parts('ZREM', QUEUE, members)
    left = {}
  end
  if waiting == 0 and queue_length > 0 then
    call('UNLINK', QUEUE)
    queue_length, front = 0, nil
    add_queued({}, 0)
  end
end
