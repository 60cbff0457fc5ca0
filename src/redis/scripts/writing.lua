-- Writes the new state, and returns the reply.
--
-- Needs all above.
do
  -- The records that have changed: their places in the text with their new values, or the fields of OWNERS.
  local places, values, fields = {}, {}, {}
  for name, record in pairs(records) do
    if record and record.is_changed then
      if owners_apart then fields[#fields + 1], fields[#fields + 2] = name, pack_record(record) .. PADDING
      else
        local place = find(owners, '\n' .. name .. ' ', 1, true) + #name + 2
        places[#places + 1], values[place] = place, pack_record(record)
      end
    end
  end
  if owners_apart then call_in_parts('HSET', OWNERS, fields)
  else
    -- The parts are joined once: each concatenation copies all bytes.
    local parts, from = {}, 1
    table.sort(places)
    for _, place in ipairs(places) do
      parts[#parts + 1], parts[#parts + 2], from = sub(owners, from, place - 1), values[place], place + RECORD_SIZE
    end
    parts[#parts + 1] = sub(owners, from)
    owners = table.concat(parts)
  end
end
if owners_apart and owner_count <= FEW_OWNERS then
  local texts, all = {}, call('HGETALL', OWNERS)
  for index = 1, #all, 2 do
    texts[#texts + 1] = '\n' .. all[index] .. ' ' .. sub(all[index + 1], 1, RECORD_SIZE)
  end
  owners, owners_apart = table.concat(texts), false
  call('UNLINK', OWNERS, EXPIRIES)
end
if queue_apart and queue_length <= FEW then
  write_text()
  call('UNLINK', QUEUE)
  queue_apart = false
end
-- A state that equals a new one is deleted; any other expires soon after it would equal a new one.
local needed = max(now, paused, last_expiry + grace)
for _, rate in ipairs(rates) do
  if rate.lasts then needed = max(needed, sliding.full_at(rate))
  elseif level(rate, now) < rate.burst then
    needed = max(needed, rate.since + (rate.burst - rate.tokens) / rate.rate)
  end
end
if owner_count == 0 and active == surplus and needed <= now then
  call('UNLINK', unpack(KEYS, 1, 7))
  return table.concat(reply, '\n')
end
if active > surplus and needed <= now then needed = now + ttl end
needed = min(FOREVER, ceil(needed))
local has_log = buckets > 0 and grants > folded
-- The keys live a little longer than needed, so that few calls must prolong them: a new expiry takes as long as another
-- command of Redis. While the clock is behind, each call sets the expiry again.
local lifetime
if keys_expiry < needed or keys_expiry > needed + 2 * ttl or clock < now then
  keys_expiry = min(FOREVER, needed + floor(ttl / 8))
  lifetime = format('%.0f', ceil((keys_expiry - now) / 1000) + 1)
  if queue_apart then call('PEXPIRE', QUEUE, lifetime) end
  if leases_apart then
    call('PEXPIRE', LEASES, lifetime)
    call('PEXPIRE', SLOTS, lifetime)
  end
  if owners_apart then
    call('PEXPIRE', OWNERS, lifetime)
    call('PEXPIRE', EXPIRIES, lifetime)
  end
  if has_log then call('PEXPIRE', LOG, lifetime) end
  -- Redis expires the keys by its clock. While this clock is behind, it shows less than `now`.
  keys_expiry = keys_expiry - now + clock
end
local kind = 'f'
-- The fast path and the queue path keep `offset` and `grace`, which end once the clock has caught up.
if not leases_apart and not owners_apart and not queue_apart and paused <= now and dying == ''
  and offset + grace == 0 then
  -- Without a rate, these paths compare no cost with the burst.
  local has_limits = rates[1] or burst < 1e300
  if queue_length == 0 then
    kind = not has_limits and 'q' or has_log and not has_windows and (terms == '' and 'r' or 'm') or 'f'
  elseif not has_limits and queue_length == waiting then kind = 'w' end
end
if has_windows then read_settlement() end
if is_read then
  local packs = {}
  for index, rate in ipairs(rates) do
    local memory = rate.memory
    packs[index] = memory
      and { memory.base, memory.at, memory.rate, memory.burst, memory.ignored, memory.peaks, memory.folded }
      or { rate.lasts, rate.sums, rate.start, rate.ignored }
  end
  settlement = rates[1] and cmsgpack.pack(unpack(packs)) or ''
end
local one = { capacity = -1, period = 1, rate = -1, burst = burst, tokens = 0, since = 0 }
levels = ''
if terms == '' then one = rates[1] or one
else
  for _, rate in ipairs(rates) do
    levels = levels .. struct.pack('>ddddds', rate.tokens, rate.since, rate.rate, rate.burst, rate.queued, rate.tag)
  end
  levels = levels .. struct.pack('>I4', #levels)
end
packed = 'headgate2' .. kind
  .. struct.pack('>ddddI4I4I4I4', now, next_expiry, last_expiry, active, #owners, #leases, #slots, #permissions)
  .. version_text
  .. struct.pack('>dddddddddddddddddddd', one.tokens, one.since, one.rate, one.burst, grants, folded, keys_expiry,
    one.capacity, one.period,
    ticket, paused, created_at, waiting, queued, queue_length, owner_count, due, row_end, purge_from,
    (leases_apart and 1 or 0) + (owners_apart and 2 or 0) + (queue_apart and 4 or 0))
  .. owners .. leases .. slots .. permissions
  .. struct.pack('>sssdddI4', head_owner, row_owner, dying, offset, grace, surplus, queue_till - head_at + 1 + #tail)
  .. sub(queue, head_at, queue_till) .. tail .. terms .. '\0' .. settlement .. levels
if lifetime then call('SET', STATE, packed, 'PX', lifetime) else call('SET', STATE, packed, 'KEEPTTL') end
return table.concat(reply, '\n')
