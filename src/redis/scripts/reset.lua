-- Deletes the state of a gate at once, and notifies its owners in parts. `step.lua` and its parts describe the keys.
--
-- KEYS   those of `step.lua`. Key 8 is a sorted set of the owners that are still to be notified. If leases were lost,
--        its last member is `@` and the instant of the reset, for as long as an owner could state its leases again.
-- ARGV   1 the clock of a test (empty: TIME)   2 `more` to go on with the next part
-- REPLY  The number of owners that are still to be notified. Each owner receives the event `Z`.
local PART, KEPT_SECONDS = 500, 60
local call, sub, match, format = redis.call, string.sub, string.match, string.format
local RESET, names = KEYS[8], {}
if ARGV[2] ~= 'more' then
  local packed = call('GET', KEYS[1])
  if packed and sub(packed, 1, 9) ~= 'headgate2' then
    return redis.error_reply('WRONGTYPE the key does not hold the state of a throttle')
  end
  if call('EXISTS', KEYS[7]) == 1 then
    call('RENAME', KEYS[7], RESET)
    call('EXPIRE', RESET, KEPT_SECONDS)
  else call('UNLINK', RESET) end
  if packed then
    local at, _, last_expiry, active = struct.unpack('>dddd', packed, 11)
    -- A lease may have no slot.
    if active > 0 or struct.unpack('>I4', packed, 47) > 0 or call('EXISTS', KEYS[4]) == 1 then
      local now = tonumber(ARGV[1])
      if not now then
        local time = call('TIME')
        now = time[1] * 1000000 + time[2]
      end
      now = math.max(now, at)
      call('ZADD', RESET, '+inf', format('@%.0f', now))
      call('EXPIRE', RESET, math.max(KEPT_SECONDS, math.ceil((last_expiry - now) / 1000000)))
    end
    local place, till = 235, 234 + struct.unpack('>I4', packed, 43)
    while place <= till do
      local name = match(packed, '^\n(%S+) ', place)
      names[#names + 1] = name
      place = place + #name + 58
    end
  end
  call('UNLINK', unpack(KEYS, 1, 7))
end
-- The instant of the reset stays.
local function count_owners()
  local last = call('ZRANGE', RESET, -1, -1)[1]
  return call('ZCARD', RESET) - (last and sub(last, 1, 1) == '@' and 1 or 0)
end
for index, name in ipairs(call('ZPOPMIN', RESET, math.min(PART, count_owners()))) do
  if index % 2 == 1 then names[#names + 1] = name end
end
for _, name in ipairs(names) do
  local connection, instance = match(name, '^(.-)%.(.*)$')
  redis.pcall('PUBLISH', 'headgate:' .. connection, instance .. '\nZ')
end
return count_owners()
