-- Leases. The id of a lease is `owner.serial`, and its item is `slots granted cost number`. `leases` is a text of a
-- line for each, which begins with a line feed. More than MOST_INLINE leases, or a higher slot, move into LEASES, a
-- sorted set of `id item` with the score 0: a range of its members is one lease, or all of one owner.
--
-- Needs the slots and `call_in_parts`. Defines:
local MOST_INLINE, FEW = 64, 32
-- The item of each id that this batch has read from LEASES (false: none), and the lines to add and to remove.
local items, added, removed_leases = {}, {}, {}
local count_before = active - surplus
local function find_lease(id)
  if not leases_apart then
    local from = find(leases, '\n' .. id .. ' ', 1, true)
    return from and match(leases, '^[^\n]*', from + #id + 2)
  end
  local item = items[id]
  if item == nil then
    local line = call('ZRANGEBYLEX', LEASES, '[' .. id .. ' ', '(' .. id .. '!', 'LIMIT', 0, 1)[1]
    item = line and sub(line, #id + 2) or false
    items[id] = item
  end
  return item
end
local function add_lease(id, item, count)
  active, surplus = active + count, surplus + count - 1
  local line = id .. ' ' .. item
  if not leases_apart then
    leases = leases .. '\n' .. line
    return
  end
  items[id] = item
  if removed_leases[line] then removed_leases[line] = nil else added[line] = true end
end
-- Makes room for one more lease, before its `count` slots are taken. `highest`: the highest of given slots.
local function prepare_lease(count, highest)
  if leases_apart or (active - surplus < MOST_INLINE and active + count <= MOST_INLINE
    and (highest or 0) <= MOST_INLINE) then return end
  local pairs_of_words, place = {}, 1
  for line in string.gmatch(leases, '[^\n]+') do
    pairs_of_words[place], pairs_of_words[place + 1] = 0, line
    place = place + 2
  end
  call('UNLINK', LEASES, SLOTS)
  call_in_parts('ZADD', LEASES, pairs_of_words)
  call('SETBIT', SLOTS, 0, 0)
  for slot = 1, #slots do
    if sub(slots, slot, slot) == '1' then call('SETBIT', SLOTS, slot - 1, 1) end
  end
  leases, slots, leases_apart, keys_expiry = '', '', true, 0
end
local function remove_lease(id, item)
  local count = free_slots(match(item, '^%S+'))
  active, surplus = active - count, surplus - count + 1
  local line = id .. ' ' .. item
  if not leases_apart then
    local from, till = find(leases, '\n' .. line, 1, true)
    leases = sub(leases, 1, from - 1) .. sub(leases, till + 1)
    return
  end
  items[id] = false
  if added[line] then added[line] = nil else removed_leases[line] = true end
end
local function flush_leases()
  if not leases_apart then
    if active == 0 then slots = '' end
    return
  end
  local lines, members = {}, {}
  for line in pairs(added) do lines[#lines + 1], lines[#lines + 2] = 0, line end
  for line in pairs(removed_leases) do members[#members + 1] = line end
  -- New leases are written first: an empty sorted set would lose its expiry.
  call_in_parts('ZADD', LEASES, lines)
  call_in_parts('ZREM', LEASES, members)
  added, removed_leases = {}, {}
  flush_slots()
  -- Moves few leases back into the text. The moment is chosen so that a steady number of leases is seldom read.
  local count = active - surplus
  if count > 0 and (count > FEW or active > MOST_INLINE or dying ~= '' or floor(count / 8) == floor(count_before / 8))
    then return end
  local lines, texts, highest = call('ZRANGE', LEASES, 0, -1), {}, 0
  local used = {}
  for index, line in ipairs(lines) do
    texts[index] = '\n' .. line
    for slot in string.gmatch(match(line, '^%S+ (%S+)'), '%d+') do
      slot = tonumber(slot)
      used[slot], highest = true, max(highest, slot)
    end
  end
  if highest > MOST_INLINE then return end
  local digits = {}
  for slot = 1, highest do digits[slot] = used[slot] and '1' or '0' end
  leases, slots, leases_apart = table.concat(texts), table.concat(digits), false
  call('UNLINK', LEASES, SLOTS)
end
