-- The queue of waiters. A waiter is the member `owner.serial cost` with its ticket. A ticket is an instant, made
-- unique, so waiters that return after a loss of all data return in their old order.
--
-- Most queues are a text of a line for each waiter, in order: a line feed, the member, a space and the ticket. The text
-- is a part of `queue`, from `head_at` to `queue_till`: to copy it would take as long as a command of Redis. Waiters
-- that this batch adds are in `tail`. More than MOST_INLINE waiters move into QUEUE, a sorted set of the members by
-- ticket.
--
-- A waiter whose owner was removed leaves the text at the end of the sweep. In QUEUE, it stays until it reaches the
-- head, and counts only in `queue_length`: to remove all waiters of an owner would take time for each waiter in QUEUE.
--
-- Needs the rates and the owners. Defines:
-- The ticket of each waiter that this batch has read or has changed, a number or a text (false: it does not wait).
local tickets = {}
-- The members to write, in order, with their tickets as texts, and the members to remove from QUEUE.
local joined, joined_tickets, left, tail = {}, {}, {}, ''
-- Returns the first and the last place of a waiter in the text.
local function find_line(member)
  local from, till = find(queue, '\n' .. member .. ' ', head_at, true)
  if from and from <= queue_till then return from, till end
end
local function find_ticket(member, record)
  local found = tickets[member]
  if found == nil then
    local _, till = find_line(member)
    found = till and match(queue, '^%d+', till + 1) or false
    tickets[member] = found
  end
  -- A waiter from before its owner joined is of an owner of the same name that was removed.
  if found and record.birth >= created_at then
    local place = tonumber(found)
    if place <= record.birth and place >= created_at then return false end
  end
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
local function set_queue(text) queue, head_at, queue_till, tail = text, 1, #text, '' end
-- Adds the waiters of this batch to the text.
local function add_tail()
  if tail ~= '' then set_queue(sub(queue, head_at, queue_till) .. tail) end
end
-- Moves the waiters of the text into QUEUE.
local function move_queue_apart()
  if queue_apart then return end
  add_tail()
  local words = {}
  for member, place in string.gmatch(sub(queue, head_at, queue_till), '\n(%S+ %S+) (%d+)') do
    words[#words + 1], words[#words + 2] = place, member
    tickets[member] = tonumber(place)
  end
  -- A value of another program is an error here, and stays.
  call('ZREMRANGEBYRANK', QUEUE, 0, -1)
  call_in_parts('ZADD', QUEUE, words)
  set_queue('')
  queue_apart, keys_expiry = true, 0
end
-- Returns the ticket as a text.
local function join_queue(member, record, costs, place)
  local cost, text = costs.main, digits(place)
  -- The text is in the order of the tickets, so an earlier ticket needs a sorted set.
  if queue_length >= MOST_INLINE or place < ticket then move_queue_apart() end
  if place < created_at then front = nil end
  tickets[member], left[member], queue_length = place, nil, queue_length + 1
  joined[#joined + 1], joined_tickets[member] = member, text
  record.waiters, record.cost, record.is_changed = record.waiters + 1, record.cost + cost, true
  waiting, queued = waiting + 1, queued + cost
  if rates[1] then add_queued(costs, 1) end
  return text
end
local function leave_queue(member, record, costs)
  if queue_apart then left[member] = true
  else
    add_tail()
    local from, till = find_line(member)
    -- A waiter that has just joined may not be in the text yet.
    if from then
      till = till + #match(queue, '^%d+', till + 1)
      if from == head_at then head_at = till + 1
      else set_queue(sub(queue, head_at, from - 1) .. sub(queue, till + 1, queue_till)) end
    end
  end
  tickets[member], queue_length, front = false, queue_length - 1, nil
  if rates[1] then add_queued(costs, -1) end
  subtract_waiter(record, costs)
end
-- Returns the members and the tickets of the first `count` waiters that were written.
local function read_front(count)
  if queue_apart then return call('ZRANGE', QUEUE, 0, count - 1, 'WITHSCORES') end
  local found, from, index = {}, head_at, 1
  while index <= 2 * count do
    if from > queue_till then
      if tail == '' then break end
      from = queue_till - head_at + 2
      add_tail()
    end
    local _, till, member, place = find(queue, '^\n(%S+ %S+) (%d+)', from)
    found[index], found[index + 1], from, index = member, place, till + 1, index + 2
  end
  return found
end
-- Writes the living waiters into the text.
local function write_text()
  local found, lines = read_front(MOST_INLINE), {}
  for index = 1, #found, 2 do
    local member, place = found[index], found[index + 1]
    local name, cost = match(member, '^(%S+)%.%S+ (%S+)')
    local record = find_owner(name)
    tickets[member] = place
    if record and find_ticket(member, record) then lines[#lines + 1] = '\n' .. member .. ' ' .. place
    else
      queue_length = queue_length - 1
      add_queued(parse(cost), -1)
    end
  end
  set_queue(table.concat(lines))
end
-- Removes the first `count` waiters that were written.
local function drop_front(count)
  if queue_apart then
    call('ZREMRANGEBYRANK', QUEUE, 0, count - 1)
    return
  end
  for _ = 1, count do
    local _, till = find(queue, '^\n%S+ %S+ %d+', head_at)
    head_at = till + 1
  end
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
    local words, count = {}, 0
    for _, member in ipairs(joined) do
      local text = joined_tickets[member]
      if tickets[member] and text then
        joined_tickets[member] = nil
        if queue_apart then words[count + 1], words[count + 2], count = text, member, count + 2
        else words[count + 1], count = '\n' .. member .. ' ' .. text, count + 1 end
      end
    end
    if queue_apart then call_in_parts('ZADD', QUEUE, words) else tail = tail .. table.concat(words) end
    joined, joined_tickets = {}, {}
  end
  if next(left) then
    local members = {}
    for member in pairs(left) do members[#members + 1] = member end
    front = nil
    call_in_parts('ZREM', QUEUE, members)
    left = {}
  end
  if waiting == 0 and (queue_length > 0 or queue_apart) then
    if queue_apart then call('UNLINK', QUEUE) end
    set_queue('')
    queue_apart, queue_length, front = false, 0, nil
    add_queued({}, 0)
  end
end
