-- The first line of the reply, with the wake-up time, and the messages.
--
-- Needs all above. Defines nothing.
-- The owner of the head sets a timer. All others watch for the expiry of this owner.
local wake
if head_name then
  local instant, limit = max(now, paused), head_record.limit
  if rates[1] then instant = all_ready_at(instant, head_costs) end
  -- Without a free slot, the head can be due when the next owner expires.
  if limit >= 0 and active + head_costs.slots > limit then instant = max(instant, next_expiry + grace) end
  instant = is_unfinished and now + 1 or max(instant, now + 1)
  wake = instant
  if head_name ~= owner then
    wake = max(now + 1, head_record.expiry + grace)
    if head_name ~= head_owner or instant ~= due then
      notify(head_name, 'H ' .. digits(instant - now) .. ' ' .. digits(instant))
    end
  end
  head_owner, due = head_name, instant
else head_owner, due = '', 0 end
if is_unfinished then wake = now + 1 end
local version_text = format('%016.0f', version)
reply[1] = (lingers and 'L ' or 'A ') .. version_text
if wake then reply[1] = reply[1] .. ' ' .. digits(up_to) .. ' ' .. digits(wake - now) .. ' ' .. digits(wake)
elseif up_to > 0 then reply[1] = reply[1] .. ' ' .. digits(up_to) end
-- A failure to publish must not interrupt the step.
for recipient, events in pairs(messages) do
  local connection, instance = match(recipient, '^(.-)%.(.*)$')
  pcall('PUBLISH', 'headgate:' .. connection, instance .. '\n' .. table.concat(events, '\n'))
end
