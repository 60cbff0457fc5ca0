-- Owners. The record of an owner: the number of its `next` batch, its `expiry`, its `limit` of concurrency, the number
-- of its `leases` and `waiters`, the `cost` of its waiters, and its `birth`: the last ticket before it joined. `owners`
-- is a text of a line feed, the name, a space and seven doubles for each. More than MOST_OWNERS move into OWNERS, a
-- hash of the same doubles, and EXPIRIES, a sorted set. A score in EXPIRIES may be too early, since a renewal leaves it.
--
-- Needs the leases, `waiting`, `queued`. Defines:
local MOST_OWNERS, FEW_OWNERS, MOST_SWEPT = 16, 8, 200
local RECORD, RECORD_SIZE = '>ddddddd', 56
-- A value over 64 bytes makes Redis use a hash table; a list of short values is searched linearly.
local PADDING = '         '
-- The records that this batch has read, by name (false: unknown).
local records = {}
local to_sweep, is_unfinished = MOST_SWEPT, false
local function unpack_record(text, place)
  local record = {}
  record.next, record.expiry, record.limit, record.leases, record.waiters, record.cost, record.birth =
    struct.unpack(RECORD, text, place)
  return record
end
local function pack_record(record)
  return struct.pack(RECORD, record.next, record.expiry, record.limit, record.leases, record.waiters, record.cost,
    record.birth)
end
local function find_owner(name)
  local record = records[name]
  if record == nil then
    if owners_apart then
      local text = call('HGET', OWNERS, name)
      record = text and unpack_record(text, 1)
    else
      local place = find(owners, '\n' .. name .. ' ', 1, true)
      record = place and unpack_record(owners, place + #name + 2)
    end
    records[name] = record or false
  end
  return record
end
-- The names in the text `owners`.
local function inline_names()
  local names, place = {}, 1
  while place < #owners do
    local name = match(owners, '^\n(%S+) ', place)
    names[#names + 1] = name
    place = place + #name + 2 + RECORD_SIZE
  end
  return names
end
local function add_owner(name, record)
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
local function forget_owner(name)
  records[name], owner_count = false, owner_count - 1
  if owners_apart then
    call('HDEL', OWNERS, name)
    call('ZREM', EXPIRIES, name)
    return
  end
  local place = find(owners, '\n' .. name .. ' ', 1, true)
  owners = sub(owners, 1, place - 1) .. sub(owners, place + #name + 2 + RECORD_SIZE)
end
-- Frees leases of an owner that is forgotten. Returns whether none is left.
local function sweep_leases(name)
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
-- Removes an owner with its waiters and its leases. Its waiters stay in the queue until they reach the head, and its
-- leases count until they are freed.
local function remove_owner(name)
  local record = find_owner(name)
  waiting, queued = waiting - record.waiters, queued - record.cost
  if waiting == 0 then queued = 0 end
  forget_owner(name)
  if record.leases > 0 and (to_sweep <= 0 or not sweep_leases(name)) then
    dying, is_unfinished = dying .. '\n' .. name, true
  end
end
local function is_dying(name) return dying ~= '' and find(dying .. '\n', '\n' .. name .. '\n', 1, true) end
-- Removes the owners that have expired, in bounded parts.
local function sweep_owners()
  while dying ~= '' and to_sweep > 0 do
    local name = match(dying, '^\n([^\n]+)')
    if sweep_leases(name) then dying = sub(dying, #name + 2) end
  end
  if now < next_expiry or to_sweep <= 0 then
    is_unfinished = is_unfinished or dying ~= '' or now >= next_expiry
    return
  end
  local names = owners_apart and call('ZRANGEBYSCORE', EXPIRIES, '-inf', now, 'LIMIT', 0, MOST_SWEPT / 2)
    or inline_names()
  next_expiry = FOREVER
  local is_complete = #names < MOST_SWEPT / 2
  for _, name in ipairs(names) do
    local record = find_owner(name)
    if to_sweep <= 0 then is_complete = false
    elseif record and record.expiry <= now then
      to_sweep = to_sweep - 1
      remove_owner(name)
    elseif owners_apart then
      if record then call('ZADD', EXPIRIES, record.expiry, name) else call('ZREM', EXPIRIES, name) end
    else next_expiry = min(next_expiry, record.expiry) end
  end
  if not is_complete then next_expiry = now
  elseif owners_apart then next_expiry = tonumber(call('ZRANGE', EXPIRIES, 0, 0, 'WITHSCORES')[2]) or FOREVER end
  is_unfinished = is_unfinished or not is_complete
end
local function flush_owners()
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
  if not owners_apart then return end
  call_in_parts('HSET', OWNERS, words)
  if owner_count > FEW_OWNERS then return end
  local texts, all = {}, call('HGETALL', OWNERS)
  for index = 1, #all, 2 do
    texts[#texts + 1] = '\n' .. all[index] .. ' ' .. sub(all[index + 1], 1, RECORD_SIZE)
  end
  owners, owners_apart = table.concat(texts), false
  call('UNLINK', OWNERS, EXPIRIES)
end
