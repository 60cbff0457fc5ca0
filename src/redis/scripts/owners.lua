-- Owners. The record of an owner: the number of its `next` batch, its `expiry`, its `limit` of concurrency, the number
-- of its `leases` and `waiters`, the `cost` of its waiters, and its `birth`: the last ticket before it joined. `owners`
-- is a text of a line feed, the name, a space and seven doubles for each. More than MOST_OWNERS move into OWNERS, a
-- hash of the same doubles, and EXPIRIES, a sorted set. A score in EXPIRIES may be too early: a renewal leaves it.
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
