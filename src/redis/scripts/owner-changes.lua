-- Owners that join and leave, in bounded parts. Most batches need none of these functions, and to make a function takes
-- time.
--
-- Needs the owners, the leases, `batch`, `flags`. Defines:
local inline_names, add_owner, forget_owner, sweep_leases, remove_owner
if expired_at >= next_expiry or dying ~= '' or batch == 0 or find(flags, 'e', 1, true) then
  -- The names in the text `owners`.
  function inline_names()
    local names, place = {}, 1
    while place < #owners do
      local name = match(owners, '^\n(%S+) ', place)
      names[#names + 1] = name
      place = place + #name + 2 + RECORD_SIZE
    end
    return names
  end
  function add_owner(name, record)
    records[name], owner_count, record.is_changed = record, owner_count + 1, true
    next_expiry = min(next_expiry, record.expiry)
    if owners_apart then
      call('ZADD', EXPIRIES, record.expiry, name)
      return
    end
    owners = owners .. '\n' .. name .. ' ' .. pack_record(record)
    if owner_count <= MOST_OWNERS then return end
    call('UNLINK', OWNERS, EXPIRIES)
    for _, each in ipairs(inline_names()) do
      local found = find_owner(each)
      found.is_changed = true
      call('ZADD', EXPIRIES, found.expiry, each)
    end
    owners, owners_apart, keys_expiry = '', true, 0
  end
  function forget_owner(name)
    records[name], owner_count = false, owner_count - 1
    if owners_apart then
      call('HDEL', OWNERS, name)
      call('ZREM', EXPIRIES, name)
      return
    end
    local place = find(owners, '\n' .. name .. ' ', 1, true)
    owners = sub(owners, 1, place - 1) .. sub(owners, place + #name + 2 + RECORD_SIZE)
  end
  -- Returns at most `count` lines of an owner. This batch must not have changed LEASES yet.
  local function leases_of(name, count)
    if leases_apart then
      return call('ZRANGEBYLEX', LEASES, '[' .. name .. '.', '(' .. name .. '/', 'LIMIT', 0, count)
    end
    local lines, prefix = {}, name .. '.'
    for line in string.gmatch(leases, '[^\n]+') do
      if sub(line, 1, #prefix) == prefix then lines[#lines + 1] = line end
    end
    return lines
  end
  -- Frees leases of an owner that is forgotten. Returns whether none is left.
  function sweep_leases(name)
    local lines = leases_of(name, to_sweep)
    local is_done = not leases_apart or #lines < to_sweep
    for _, line in ipairs(lines) do
      local id, item = match(line, '^(%S+) (.*)$')
      remove_lease(id, item)
    end
    to_sweep = to_sweep - #lines
    flush_leases()
    return is_done
  end
  -- Removes an owner with its waiters and its leases. Its waiters stay in the queue until the sweep ends. Its leases
  -- count until they are freed.
  function remove_owner(name)
    local record = find_owner(name)
    waiting, queued = waiting - record.waiters, queued - record.cost
    if waiting == 0 then queued = 0 end
    forget_owner(name)
    if record.leases > 0 and (to_sweep <= 0 or not sweep_leases(name)) then
      dying, is_unfinished = dying .. '\n' .. name, true
    end
  end
end
