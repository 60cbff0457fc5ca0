-- The state of a gate, read from its string.
--
-- The string begins with `headgate2` and a letter: `q`, `r` or `m` for the fast path, `w` for the queue path, `f` for
-- the full step alone. The digit names the layout: a script of another layout refuses the key instead of misreading it.
-- Then follow
--   at, next_expiry, last_expiry, active (doubles), the sizes of the four texts below (integers), version (16 digits),
--   tokens, since, rate, burst, grants, folded, keys_expiry (doubles),
--   capacity, period, ticket, paused, created_at, waiting, queued, queue_length, owner_count, due, row_end, purge_from,
--   apart (doubles),
--   the texts owners, leases, slots, permissions,
--   the names head_owner, row_owner, dying (each ends with a zero byte), offset, grace, surplus (doubles), the size of
--   the queue (integer), the queue, see `queue.lua`, terms (ends with a zero byte; it begins with no digit, so the last
--   ticket of the queue ends there), settlement, see `settlement-log.lua`, and levels, see `rates.lua`.
--
-- Needs `packed`, `clock` unless the time was not read, and the arguments. Defines `now`, `expired_at` (an owner has
-- expired if its expiry is not later), `known` (whether the state was found), and:
local call, pcall = redis.call, redis.pcall
local format, match, find, sub = string.format, string.match, string.find, string.sub
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
local FOREVER = 9007199254740991
local STATE, LOG, QUEUE, LEASES, SLOTS, OWNERS, EXPIRIES = unpack(KEYS)

-- `at`: the latest instant. `next_expiry`: no owner expires before it. `last_expiry`: all owners have expired by then.
-- `active`: the number of slots in use. `surplus`: how many more these are than the leases; most leases have one slot.
-- `keys_expiry`: until when Redis keeps the keys, by the clock of the server.
local at, next_expiry, last_expiry, active, surplus, keys_expiry
-- The one bucket of most gates: the level `tokens` at the instant `since`. A capacity of -1 means no such bucket.
local capacity, period, rate, burst, tokens, since
-- The limits of a gate that has other rates than one bucket without a name, see `rates.lua`. Empty for others.
local terms
-- The number of grants that the log has had since `created_at`, and how many of them it no longer has one by one.
local grants, folded, created_at
-- The last ticket, the number of waiters and their cost, and the length of the queue with waiters of removed owners.
local ticket, waiting, queued, queue_length
-- The owner of the waiter at the head when the wake-up time `due` was computed.
local head_owner, due
-- All waiters up to the ticket `row_end` are of `row_owner`. Waiters up to `purge_from` fit into the burst.
local row_owner, row_end, purge_from
local paused, version, owner_count
-- Whether the leases with their slots, the owners, and the queue are in structures of their own.
local leases_apart, owners_apart, queue_apart
local owners, leases, slots, permissions, dying, settlement, levels
-- The text of the queue, see `queue.lua`.
local queue, head_at, queue_till = '', 1, 0
-- While the clock is behind: what is added to it, and the span for which owners live longer.
local offset, grace = 0, 0
-- The first waiters with their tickets; nil if they were not read, or may have changed since.
local front

local known = packed
if packed then
  if sub(packed, 1, 9) ~= 'headgate2' then
    return redis.error_reply('WRONGTYPE the key does not hold the state of a throttle')
  end
  local owners_size, leases_size, slots_size, permissions_size, place, apart
  at, next_expiry, last_expiry, active, owners_size, leases_size, slots_size, permissions_size, version =
    struct.unpack('>ddddI4I4I4I4c16', packed, 11)
  version = tonumber(version)
  tokens, since, rate, burst, grants, folded, keys_expiry, capacity, period, ticket, paused, created_at, waiting,
    queued, queue_length, owner_count, due, row_end, purge_from, apart =
      struct.unpack('>dddddddddddddddddddd', packed, 75)
  leases_apart, owners_apart, queue_apart = apart % 2 == 1, apart % 4 >= 2, apart >= 4
  local leases_at = 235 + owners_size
  local slots_at = leases_at + leases_size
  local permissions_at = slots_at + slots_size
  owners, leases = sub(packed, 235, leases_at - 1), sub(packed, leases_at, slots_at - 1)
  slots = sub(packed, slots_at, permissions_at - 1)
  permissions = sub(packed, permissions_at, permissions_at + permissions_size - 1)
  head_owner, row_owner, dying, offset, grace, surplus, queue_till, head_at =
    struct.unpack('>sssdddI4', packed, permissions_at + permissions_size)
  queue, queue_till = packed, head_at + queue_till - 1
  terms, place = struct.unpack('>s', packed, queue_till + 1)
  if terms == '' then settlement = sub(packed, place)
  else
    local levels_at = #packed - 3 - struct.unpack('>I4', packed, #packed - 3)
    settlement, levels = sub(packed, place, levels_at - 1), sub(packed, levels_at, -5)
  end
  -- Redis may have evicted a structure. Then all is lost, and every owner states again what it holds.
  if queue_apart then
    front = call('ZRANGE', QUEUE, 0, 2, 'WITHSCORES')
    known = front[1] ~= nil
  elseif waiting > 0 and head_at > queue_till then known = false end
  if leases_apart then known = known and call('EXISTS', LEASES, SLOTS) == 2 end
  if owners_apart then known = known and call('EXISTS', OWNERS, EXPIRIES) == 2 end
end

-- Time never steps back. If the clock was set back, time goes on from the latest instant, at the pace of the clock. The
-- time between the two calls around the change is lost. The timer of a process can confirm that an instant has passed,
-- and so recover the lost time. Renewals before that were recorded too early by the lost time, so owners live longer by
-- it. A clock that is only a little behind stands still until it has caught up: leases have a larger margin. More time
-- than a ttl at once is another change of the clock: living owners call more often.
if not clock then
  clock = given_clock
  if not clock then
    local time = call('TIME')
    clock = time[1] * 1000000 + time[2]
  end
end
local now = clock
if packed and at > clock then
  local elapsed, most = clock + offset - at, ttl or FOREVER
  now = at
  if elapsed > most or elapsed < -most / 16 then offset = at - clock elseif elapsed > 0 then now = at + elapsed end
  if confirmed > now then
    grace = max(grace, confirmed - now)
    if offset > 0 then offset = confirmed - clock end
    now = confirmed
  end
else offset, grace = 0, 0 end
local expired_at = now - grace
if not known then
  at, next_expiry, last_expiry, active, surplus, keys_expiry = now, FOREVER, 0, 0, 0, 0
  capacity, period, rate, burst, tokens, since = -1, 1, -1, 0, 0, 0
  grants, folded, created_at = 0, 0, now
  ticket, waiting, queued, queue_length = 0, 0, 0, 0
  head_owner, due, row_owner, row_end, purge_from = '', 0, '', 0, -1
  paused, owner_count, leases_apart, owners_apart, queue_apart, grace = 0, 0, false, false, false, 0
  version = max(version and version + 1 or 0, now)
  owners, leases, slots, permissions, dying, settlement, terms, front = '', '', '', '', '', '', '', nil
  queue, head_at, queue_till = '', 1, 0
end
