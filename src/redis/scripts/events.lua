-- Events for the caller go into the reply, events for other owners into messages.
--
-- Needs `owner`. Defines:
local reply, messages = { '' }, {}
local function notify(recipient, event)
  local events = reply
  if recipient ~= owner then
    events = messages[recipient] or {}
    messages[recipient] = events
  end
  events[#events + 1] = event
end
-- Returns a whole number as a text. Most instants are printed in two halves: that takes half the time of `%.0f`.
local function digits(number)
  if number < 1000000000 then return format('%d', number) end
  if number < 2000000000000000 then return format('%d%06d', number / 1000000, number % 1000000) end
  return format('%.0f', number)
end
-- Lua limits the number of arguments of a call.
local function call_in_parts(command, key, values)
  for from = 1, #values, 4000 do call(command, key, unpack(values, from, min(from + 3999, #values))) end
end
