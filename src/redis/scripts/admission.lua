-- Decides whether the batch is applied: not for an unknown owner, and not if an earlier batch is missing. Renews the
-- owner, sweeps what has expired, and takes up new settings.
--
-- Needs all above. Defines `self`, the record of the caller, and `is_duplicate`.
if find(flags, 'p', 1, true) then
  local connection, instance = match(owner, '^(.-)%.(.*)$')
  local echo = pcall('PUBLISH', 'headgate:' .. connection, instance)
  if type(echo) == 'table' and echo.err then
    local text = 'NOPERM headgate cannot publish to the channel headgate:' .. connection .. ': ' .. echo.err
    return redis.error_reply(text)
  end
end
-- The number of words of each command.
local WORDS = { A = 4, C = 3, E = 2, K = 3, P = 2, R = 2, S = 5, U = 1, W = 4 }
local self = find_owner(owner)
if not self and (batch ~= 0 or is_dying(owner)) then return format('U %016.0f', version) end
if self and batch > self.next then return format('R %016.0f', version) end
local is_duplicate = self and batch < self.next
do
  local members, index = {}, 10
  while ARGV[index] do
    local word = ARGV[index]
    if not WORDS[word] then return redis.error_reply('ERR headgate: no such command: ' .. word) end
    -- A request of a new batch is a new request, so it is searched only in a duplicate.
    if word == 'C' or word == 'W' or (word == 'A' and is_duplicate) then
      members[#members + 1] = owner .. '.' .. ARGV[index + 1] .. ' ' .. ARGV[index + 2]
    end
    index = index + WORDS[word]
  end
  read_tickets(members)
end
if not known then call('UNLINK', LOG, QUEUE, LEASES, SLOTS, OWNERS, EXPIRIES) end
if self then
  self.expiry, self.is_changed = now + ttl, true
else
  self = { next = 0, expiry = now + ttl, limit = concurrency, leases = 0, waiters = 0, cost = 0, birth = ticket }
  add_owner(owner, self)
end
if not is_duplicate then self.next, self.limit = batch + 1, concurrency end
last_expiry = max(last_expiry, self.expiry)
sweep_owners()
if not is_duplicate and ARGV[10] == 'E' and ARGV[11] ~= owner and find_owner(ARGV[11]) then remove_owner(ARGV[11]) end
-- The latest new rate applies to all.
if not known or (find(flags, 'c', 1, true) and not is_duplicate) then
  local old_capacity, old_rate, old_burst = capacity, rate, burst
  if old_capacity >= 0 then read_settlement() end
  capacity, period, burst = match(ARGV[5], '^(%S+) (%S+) (%S+)$')
  capacity, period, burst = tonumber(capacity), tonumber(period), tonumber(burst)
  rate = capacity / period
  if old_capacity < 0 or capacity < 0 then
    tokens, since = burst, now
    if old_capacity >= 0 or capacity >= 0 then begin_log(grants, {}) end
    is_withdrawn = old_capacity < 0 and capacity >= 0
  elseif rate ~= old_rate or burst ~= old_burst then
    local change = max(now, since)
    tokens, since, grants = min(burst, old_burst, tokens + (change - since) * old_rate), change, grants + 2
    logged = { struct.pack('>dd', change, -1), struct.pack('>dd', rate, burst) }
  end
  if waiting > 0 and burst < old_burst then purge_from = 0 end
end
purge_queue()
