-- Permissions on record. `permissions` is a text of a line for each owner whose latest reply has permitted something:
-- `L` and the name if released slots may linger, `U` and the name if only a row of waiters may be served. Line feeds
-- stand before, between and after the lines. A withdrawal makes all of them void.
--
-- Needs `permissions`, `version`, `owner`, the owners. Defines:
local MOST_PERMISSIONS = 64
local is_withdrawn = false
local function withdraw()
  is_withdrawn = false
  if permissions == '' and not packed then return end
  version = version + 1
  local event = format('V %.0f', version)
  for name in string.gmatch(permissions, '%S+') do
    name = sub(name, 2)
    if name ~= owner then notify(name, event) end
  end
  permissions = ''
end
-- Whether a slot that lingers with another owner may be what the waiters of the queue lack.
local function must_recall()
  if waiting == 0 or not find(permissions, '\nL', 1, true) then return false end
  for name in string.gmatch(permissions, '\nL(%S+)') do
    local record = name ~= owner and find_owner(name)
    if record and waiting > record.waiters then return true end
  end
  return false
end
-- Records what the reply permits: `L`, `U`, or nothing. Returns whether there was room.
local function record_permission(kind)
  local from, till
  if permissions ~= '' then
    from, till = find(permissions, '\nL' .. owner .. '\n', 1, true)
    if not from then from, till = find(permissions, '\nU' .. owner .. '\n', 1, true) end
    if from then
      permissions = sub(permissions, 1, from) .. sub(permissions, till + 1)
      if permissions == '\n' then permissions = '' end
    end
  end
  if not kind then return true end
  if permissions == '' then permissions = '\n' end
  local _, count = string.gsub(permissions, '\n', '')
  if count > MOST_PERMISSIONS then return false end
  permissions = permissions .. kind .. owner .. '\n'
  return true
end
