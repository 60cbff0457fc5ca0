-- The end of the step: grants, permissions, wake-up times, messages, and the new state.
--
-- Needs all above. Returns the reply.
drain()
flush_log()
trim_log()
flush_leases()
local has_ended = find(flags, 'e', 1, true) and not is_duplicate and self.leases == 0 and self.waiters == 0
if has_ended then forget_owner(owner) end
if waiting == 0 then purge_from = -1 end
if owner_count == 0 then next_expiry, last_expiry = FOREVER, 0 end

-- What the caller may do by itself until its next call.
if is_withdrawn or must_recall() then withdraw() end
local up_to, lingers = 0, false
if capacity < 0 and now >= paused and (self.limit < 0 or active <= self.limit) and not has_ended then
  if head_name == owner then up_to = end_of_row(head_ticket) end
  lingers = find(flags, 'l', 1, true) and waiting == self.waiters
end
if not record_permission(lingers and 'L' or (up_to > 0 and 'U')) then up_to, lingers = 0, false end

-- The owner of the head sets a timer. All others watch for the expiry of this owner.
local wake
if head_name then
  local instant, limit = ready_at(max(now, paused), head_cost), head_record.limit
  -- Without a free slot, the head can be due when the next owner expires.
  if limit >= 0 and active >= limit then instant = max(instant, next_expiry) end
  instant = max(instant, now + 1)
  wake = instant
  if head_name ~= owner then
    wake = max(now + 1, head_record.expiry)
    if head_name ~= head_owner or instant ~= due then
      notify(head_name, format('H %.0f %.0f', instant - now, instant))
    end
  end
  head_owner, due = head_name, instant
else head_owner, due = '', 0 end
if is_unfinished then wake = now + 1 end
local version_text = format('%016.0f', version)
reply[1] = (lingers and 'L ' or 'A ') .. version_text
if wake then reply[1] = reply[1] .. format(' %.0f %.0f %.0f', up_to, wake - now, wake)
elseif up_to > 0 then reply[1] = reply[1] .. format(' %.0f', up_to) end
if next(messages) then publish_messages() end

-- A state that equals a new one is deleted; any other expires when it would equal a new one.
flush_owners()
local needed = max(now, paused, last_expiry)
if capacity >= 0 and level(now) < burst then needed = max(needed, since + (burst - tokens) / rate) end
if owner_count == 0 and active == 0 and needed <= now then
  call('UNLINK', unpack(KEYS))
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
  .. owners .. leases .. slots .. permissions .. struct.pack('>sss', head_owner, row_owner, dying) .. settlement,
  'PX', format('%.0f', ceil((needed - now) / 1000) + 1))
return table.concat(reply, '\n')
