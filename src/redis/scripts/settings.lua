-- Takes up a new rate, and refuses waiters that a smaller burst has made too expensive, in bounded parts.
--
-- Needs all above. Sets the bucket.

-- The latest new rate applies to all.
if not known or (find(flags, 'c', 1, true) and not is_duplicate) then
  local old_capacity, old_rate, old_burst = capacity, rate, burst
  if old_capacity >= 0 then read_settlement() end
  capacity, period, burst = match(ARGV[5], '^(%S+) (%S+) (%S+)$')
  capacity, period, burst = tonumber(capacity), tonumber(period), tonumber(burst)
  rate = capacity / period
  if old_capacity < 0 or capacity < 0 then
    tokens, since = burst, now
    if old_capacity >= 0 or capacity >= 0 then begin_log(grants, {}) end
    is_withdrawn = known and old_capacity < 0 and capacity >= 0
  elseif rate ~= old_rate or burst ~= old_burst then
    local change = max(now, since)
    tokens, since, grants = min(burst, old_burst, tokens + (change - since) * old_rate), change, grants + 2
    logged = { struct.pack('>dd', change, -1), struct.pack('>dd', rate, burst) }
  end
  if waiting > 0 and burst < old_burst then purge_from = 0 end
end
if purge_from >= 0 then
  local found = call('ZRANGEBYSCORE', QUEUE, '(' .. format('%.0f', purge_from), '+inf', 'WITHSCORES', 'LIMIT', 0,
    MOST_SWEPT)
  for index = 1, #found, 2 do
    local member, place = found[index], tonumber(found[index + 1])
    local name, serial, cost = match(member, '^(.*)%.(%S+) (.*)$')
    local record = find_owner(name)
    tickets[member], purge_from, cost = place, place, tonumber(cost)
    if cost > burst and record and find_ticket(member, record) then
      leave_queue(member, record, cost)
      notify(name, format('O %s %.17g', serial, burst))
    end
  end
  if #found < 2 * MOST_SWEPT then purge_from = -1 else is_unfinished = true end
end
