-- Writes the new state, and returns the reply.
--
-- Needs all above.
local words = {}
for name, record in pairs(records) do
  if record and record.is_changed then
    if owners_apart then words[#words + 1], words[#words + 2] = name, pack_record(record) .. PADDING
    else
      local place = find(owners, '\n' .. name .. ' ', 1, true) + #name + 2
      owners = sub(owners, 1, place - 1) .. pack_record(record) .. sub(owners, place + RECORD_SIZE)
    end
  end
end
if owners_apart then
  call_in_parts('HSET', OWNERS, words)
end
if owners_apart and owner_count <= FEW_OWNERS then
  local texts, all = {}, call('HGETALL', OWNERS)
  for index = 1, #all, 2 do
    texts[#texts + 1] = '\n' .. all[index] .. ' ' .. sub(all[index + 1], 1, RECORD_SIZE)
  end
  owners, owners_apart = table.concat(texts), false
  call('UNLINK', OWNERS, EXPIRIES)
end
-- A state that equals a new one is deleted; any other expires when it would equal a new one.
local needed = max(now, paused, last_expiry + grace)
if capacity >= 0 and level(now) < burst then needed = max(needed, since + (burst - tokens) / rate) end
if owner_count == 0 and active == 0 and needed <= now then
  call('UNLINK', unpack(KEYS, 1, 7))
  return table.concat(reply, '\n')
end
if active > 0 and needed <= now then needed = now + ttl end
needed = min(FOREVER, ceil(needed))
local has_log = capacity >= 0 and grants > folded
local names = {}
if queue_length > 0 then names[1] = QUEUE end
if leases_apart then names[#names + 1], names[#names + 2] = LEASES, SLOTS end
if owners_apart then names[#names + 1], names[#names + 2] = OWNERS, EXPIRIES end
if has_log then names[#names + 1] = LOG end
-- The other keys live a little longer, so that few calls must prolong them. They also expire while the clock is behind.
if not names[1] then keys_expiry = 0
elseif keys_expiry < needed or keys_expiry > needed + 2 * ttl or clock < now then
  keys_expiry = min(FOREVER, needed + floor(ttl / 8))
  for _, name in ipairs(names) do call('PEXPIRE', name, format('%.0f', ceil((keys_expiry - now) / 1000) + 1)) end
end
local kind = 'f'
if queue_length == 0 and not leases_apart and not owners_apart and paused <= now and dying == '' then
  kind = capacity < 0 and 'q' or has_log and 'r' or 'f'
end
if base then settlement = capacity < 0 and '' or cmsgpack.pack(base, base_at, base_rate, base_burst, ignored, peaks) end
call('SET', STATE, 'headgate1' .. kind
  .. struct.pack('>ddddI4I4I4I4', now, next_expiry, last_expiry, active, #owners, #leases, #slots, #permissions)
  .. version_text
  .. struct.pack('>dddddddddddddddddddd', tokens, since, rate, burst, grants, folded, keys_expiry, capacity, period,
    ticket, paused, created_at, waiting, queued, queue_length, owner_count, due, row_end, purge_from,
    (leases_apart and 1 or 0) + (owners_apart and 2 or 0))
  .. owners .. leases .. slots .. permissions .. struct.pack('>sssdd', head_owner, row_owner, dying, offset, grace)
  .. settlement,
  'PX', format('%.0f', ceil((needed - now) / 1000) + 1))
return table.concat(reply, '\n')
