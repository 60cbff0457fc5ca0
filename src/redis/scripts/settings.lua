-- Takes up new rates, and refuses waiters that a smaller burst has made too expensive, in bounded parts.
--
-- Needs all above. Sets the rates.

-- The latest new rates apply to all.
if not known or (find(flags, 'c', 1, true) and not is_duplicate and given_rates ~= terms) then
  local old, old_burst, is_single = rates, rates[1] and rates[1].burst or burst, find(given_rates, '^-?%d')
  local new, new_buckets, windows = read_terms(given_rates)
  local one, other = old[1], new[1]
  local keeps_shape = known and terms == '' and is_single and #old == #new
  if not other then burst = tonumber(match(given_rates, '%S+$')) end
  if keeps_shape and one then
    one.capacity, one.period = other.capacity, other.period
    if one.rate ~= other.rate or one.burst ~= other.burst then
      read_settlement()
      local change = max(now, one.since)
      one.tokens, one.since, grants = min(other.burst, level(one, change)), change, grants + 2
      one.rate, one.burst = other.rate, other.burst
      logged = { struct.pack('>dd', change, -1), struct.pack('>dd', one.rate, one.burst) }
    end
  elseif not keeps_shape then
    if known then
      -- A rate keeps the level of the earlier rate of its name and kind. Rates without a name are matched in order.
      if one and other then fold_all(grants) end
      if buckets > 0 then call('UNLINK', LOG) end
      local earlier_by_name, unnamed = {}, 0
      local function name_of(rate)
        unnamed = unnamed + (rate.tag == '' and 1 or 0)
        return (rate.tag == '' and unnamed or rate.tag) .. (rate.lasts and 'w' or 'b')
      end
      for _, rate in ipairs(old) do earlier_by_name[name_of(rate)] = rate end
      unnamed, folded, logged = 0, grants, {}
      for _, rate in ipairs(new) do
        local earlier = earlier_by_name[name_of(rate)]
        if earlier then take_over(rate, earlier)
        elseif rate.lasts then rate.ignored = grants
        else begin_memory(rate, {}, grants) end
      end
      is_withdrawn, is_read = other and not one, true
    end
    rates, buckets, has_windows, parsed = new, new_buckets, windows, {}
    terms, stride = is_single and '' or given_rates, 8 + 8 * buckets
  end
  if waiting > 0 and (not keeps_shape or (rates[1] and rates[1].burst or burst) < old_burst) then purge_from = 0 end
end
if queue_length == 0 then purge_from = -1 end
if purge_from >= 0 then
  move_queue_apart()
  local found = call('ZRANGEBYSCORE', QUEUE, '(' .. format('%.0f', purge_from), '+inf', 'WITHSCORES', 'LIMIT', 0,
    MOST_SWEPT)
  for index = 1, #found, 2 do
    local member, place = found[index], tonumber(found[index + 1])
    local name, serial, cost = match(member, '^(.*)%.(%S+) (.*)$')
    local record = find_owner(name)
    -- The owner of a waiter in `left` was removed. The next write removes the waiter from QUEUE.
    tickets[member], purge_from, cost = not left[member] and place, place, parse(cost)
    if is_oversize(cost) and record and find_ticket(member, record) then
      leave_queue(member, record, cost)
      notify(name, oversize_event(serial, cost))
    end
  end
  if #found < 2 * MOST_SWEPT then purge_from = -1 else is_unfinished = true end
end
