-- Removes the owners that have expired, and an owner that the caller replaces, in bounded parts.
--
-- Needs all above. Sets `is_unfinished` if more is left.

if dying ~= '' then
  while dying ~= '' and to_sweep > 0 do
    local name = match(dying, '^\n([^\n]+)')
    if sweep_leases(name) then dying = sub(dying, #name + 2) end
  end
  is_unfinished = dying ~= ''
end
if expired_at >= next_expiry then
  local names = owners_apart and call('ZRANGEBYSCORE', EXPIRIES, '-inf', expired_at, 'LIMIT', 0, MOST_SWEPT / 2)
    or inline_names()
  next_expiry = FOREVER
  local is_complete = #names < MOST_SWEPT / 2
  for _, name in ipairs(names) do
    local record = find_owner(name)
    if to_sweep <= 0 then is_complete = false
    elseif record and record.expiry <= expired_at then
      to_sweep = to_sweep - 1
      remove_owner(name)
    elseif owners_apart then
      if record then call('ZADD', EXPIRIES, record.expiry, name) else call('ZREM', EXPIRIES, name) end
    else next_expiry = min(next_expiry, record.expiry) end
  end
  if not is_complete then next_expiry = expired_at
  elseif owners_apart then next_expiry = tonumber(call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')[2]) or FOREVER end
  is_unfinished = is_unfinished or not is_complete
end
-- A new epoch of a process replaces an earlier one.
if not is_duplicate and words[1] == 'E' and words[2] ~= owner and find_owner(words[2]) then remove_owner(words[2]) end
-- Waiters of removed owners leave the text at once.
if queue_length > waiting and not queue_apart then write_text() end
