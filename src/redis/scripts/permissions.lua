-- Permissions on record. `permissions` is a text of a line for each owner whose latest reply has permitted something:
-- `L` and the name if released slots may linger, `U` and the name if only a row of waiters may be served. Line feeds
-- stand before, between and after the lines. A withdrawal makes all of them void.
--
-- Needs all above, after all grants. Defines `up_to` and `lingers`, the permissions of the caller.
-- The waiters of the queue may need a slot that lingers with another owner.
if waiting > 0 and not is_withdrawn and find(permissions, '\nL', 1, true) then
  for name in string.gmatch(permissions, '\nL(%S+)') do
    local record = name ~= owner and find_owner(name)
    if record and waiting > record.waiters then is_withdrawn = true end
  end
end
if is_withdrawn then
  version = version + 1
  local event = format('V %.0f', version)
  for name in string.gmatch(permissions, '%S+') do
    name = sub(name, 2)
    if name ~= owner then notify(name, event) end
  end
  permissions = ''
end
local up_to, lingers = 0, false
if not rates[1] and now >= paused and (self.limit < 0 or active <= self.limit) and not has_ended then
  if head_name == owner then
    if row_owner ~= owner or row_end < head_ticket then
      row_owner, row_end = owner, head_ticket
      local index = row_from + 2
      while true do
        -- Few rows are long, so the first few waiters are read first.
        if not row[index] then
          local count = #row < 32 and 16 or 64
          if #row >= 128 or (#row - row_from + 1) / 2 >= queue_length then break end
          row, row_from, index = read_front(count), 1, #row - row_from + 2
        end
        local name = row[index] and match(row[index], '^(%S+)%.')
        if not name or (name ~= owner and find_owner(name)) then break end
        row_end, index = tonumber(row[index + 1]), index + 2
      end
    end
    up_to = row_end
  end
  lingers = find(flags, 'l', 1, true) and waiting == self.waiters
end
if permissions ~= '' then
  local from, till = find(permissions, '\nL' .. owner .. '\n', 1, true)
  if not from then from, till = find(permissions, '\nU' .. owner .. '\n', 1, true) end
  if from then
    permissions = sub(permissions, 1, from) .. sub(permissions, till + 1)
    if permissions == '\n' then permissions = '' end
  end
end
if lingers or up_to > 0 then
  if permissions == '' then permissions = '\n' end
  local _, count = string.gsub(permissions, '\n', '')
  -- At most 64 permissions are on record.
  if count > 64 then up_to, lingers = 0, false
  else permissions = permissions .. (lingers and 'L' or 'U') .. owner .. '\n' end
end
