-- Deletes the state of a gate at once, and notifies its owners in parts. `step.lua` and its parts describe the keys.
--
-- KEYS   those of `step.lua`, then 8 the owners that are still to be notified: a sorted set
-- ARGV   1 (not read)   2 `more` to go on with the next part
-- REPLY  The number of owners that are still to be notified. Each owner receives the event `Z`.
local PART, KEPT_SECONDS = 500, 60
local call, sub, match = redis.call, string.sub, string.match
local RESET, names = KEYS[8], {}
if ARGV[2] ~= 'more' then
  local packed = call('GET', KEYS[1])
  if packed and sub(packed, 1, 9) ~= 'headgate1' then
    return redis.error_reply('WRONGTYPE the key does not hold the state of a throttle')
  end
  if call('EXISTS', KEYS[7]) == 1 then
    call('RENAME', KEYS[7], RESET)
    call('EXPIRE', RESET, KEPT_SECONDS)
  end
  if packed then
    local place, till = 235, 234 + struct.unpack('>I4', packed, 43)
    while place <= till do
      local name = match(packed, '^\n(%S+) ', place)
      names[#names + 1] = name
      place = place + #name + 58
    end
  end
  call('UNLINK', unpack(KEYS, 1, 7))
end
for index, name in ipairs(call('ZPOPMIN', RESET, PART)) do
  if index % 2 == 1 then names[#names + 1] = name end
end
for _, name in ipairs(names) do
  local connection, instance = match(name, '^(.-)%.(.*)$')
  redis.pcall('PUBLISH', 'headgate:' .. connection, instance .. '\nZ')
end
return call('ZCARD', RESET)
