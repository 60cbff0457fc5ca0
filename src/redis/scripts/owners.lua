-- Owners. The record of an owner: the number of its `next` batch, its `expiry`, its `limit` of concurrency, the number
-- of its `leases` and `waiters`, the main `cost` of its waiters, and its `birth`: the last ticket before it joined.
-- `owners` is a text of a line feed, the name, a space and seven doubles for each. More than MOST_OWNERS move into
-- OWNERS, a hash of the same doubles, and EXPIRIES, a sorted set. A score in EXPIRIES may be too early: a renewal
-- leaves it.
--
-- Needs the leases, `waiting`, `queued`. Defines:
local MOST_OWNERS, FEW_OWNERS, MOST_SWEPT = 16, 8, 200
local RECORD, RECORD_SIZE = '>ddddddd', 56
-- A value over 64 bytes makes Redis use a hash table; a list of short values is searched linearly.
local PADDING = '         '
-- The records that this batch has read, by name (false: unknown).
local records = {}
local to_sweep, is_unfinished = MOST_SWEPT, false
local function pack_record(record)
  return struct.pack(RECORD, record.next, record.expiry, record.limit, record.leases, record.waiters, record.cost,
    record.birth)
end
local function find_owner(name)
  local record = records[name]
  if record == nil then
    local text, place = owners, nil
    if owners_apart then text, place = call('HGET', OWNERS, name), 1
    else
      place = find(owners, '\n' .. name .. ' ', 1, true)
      place = place and place + #name + 2
    end
    record = false
    if text and place then
      local next_batch, expiry, limit, held, waiters, cost, birth = struct.unpack(RECORD, text, place)
      record = { next = next_batch, expiry = expiry, limit = limit, leases = held, waiters = waiters, cost = cost,
        birth = birth, is_changed = false }
    end
    records[name] = record
  end
  return record
end
