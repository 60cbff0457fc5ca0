-- Slot numbers, from 1. The lowest free ones are taken. An item names its slots, separated by commas; `0` stands for
-- none. `slots` is a text with a `1` for each slot in use and a `0` for each free one. Slots in a structure of their
-- own are the bitmap SLOTS.
--
-- Needs `slots`, `leases_apart`. Defines:
local freed, sorted, lowest = {}, true, nil
local function take_slot()
  if not leases_apart then
    local slot = find(slots, '0', 1, true) or #slots + 1
    slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1)
    return slot
  end
  -- The bitmap does not contain the slots that this batch has freed.
  if not sorted then
    table.sort(freed, function(one, other) return one > other end)
    sorted = true
  end
  local slot = freed[#freed]
  lowest = lowest or call('BITPOS', SLOTS, 0) + 1
  if slot and slot < lowest then
    freed[#freed] = nil
    return slot
  end
  slot, lowest = lowest, nil
  call('SETBIT', SLOTS, slot - 1, 1)
  return slot
end
local function free_slot(slot)
  if leases_apart then freed[#freed + 1], sorted = slot, false
  else slots = sub(slots, 1, slot - 1) .. '0' .. sub(slots, slot + 1) end
end
local function take_slots(count)
  if count == 1 then return take_slot() end
  local taken = {}
  for index = 1, count do taken[index] = take_slot() end
  return count == 0 and '0' or table.concat(taken, ',')
end
-- Frees the slots of an item. Returns their number.
local function free_slots(text)
  local number = tonumber(text)
  if number then
    if number > 0 then free_slot(number) end
    return min(number, 1)
  end
  local count = 0
  for slot in string.gmatch(text, '%d+') do
    free_slot(tonumber(slot))
    count = count + 1
  end
  return count
end
local function flush_slots()
  for from = 1, #freed, 1000 do
    local words = {}
    for index = from, min(from + 999, #freed) do
      local count = #words
      words[count + 1], words[count + 2], words[count + 3], words[count + 4] = 'SET', 'u1', freed[index] - 1, 0
    end
    call('BITFIELD', SLOTS, unpack(words))
  end
  freed, lowest = {}, nil
end
local occupy_slot, occupy_slots
if batch == 0 then
  -- Takes a slot of a given number. Returns whether it was free.
  function occupy_slot(slot)
    if leases_apart then
      flush_slots()
      return call('SETBIT', SLOTS, slot - 1, 1) == 0
    end
    if sub(slots, slot, slot) == '1' then return false end
    if slot > #slots then slots = slots .. string.rep('0', slot - #slots) end
    slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1)
    return true
  end
  -- Takes all slots of an item or none. Returns whether they were free.
  function occupy_slots(numbers)
    for index, slot in ipairs(numbers) do
      if not occupy_slot(slot) then
        for taken = 1, index - 1 do free_slot(numbers[taken]) end
        return false
      end
    end
    return true
  end
end
