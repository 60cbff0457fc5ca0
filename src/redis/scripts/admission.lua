-- Decides whether the batch is applied: not for an unknown owner, and not if an earlier batch is missing. Renews the
-- owner.
--
-- Needs all above. Defines `self`, the record of the caller, `is_duplicate`, and `words`.
if find(flags, 'p', 1, true) then
  local connection, instance = match(owner, '^(.-)%.(.*)$')
  local echo = pcall('PUBLISH', 'headgate:' .. connection, instance)
  if type(echo) == 'table' and echo.err then
    local text = 'NOPERM headgate cannot publish to the channel headgate:' .. connection .. ': ' .. echo.err
    return redis.error_reply(text)
  end
end
-- The words of all commands.
local words = {}
do
  local count = 0
  for word in string.gmatch(sub(ARGV[1], commands_at), '([^\n]*)\n') do
    count = count + 1
    words[count] = word
  end
end
-- The number of words of each command.
local WORDS = { A = 4, B = 4, C = 3, E = 2, K = 3, P = 2, R = 2, S = 5, T = 3, U = 1, W = 4 }
local self = find_owner(owner)
if not self and (batch ~= 0 or find(dying .. '\n', '\n' .. owner .. '\n', 1, true)) then
  return format('U %016.0f', version)
end
if self and batch > self.next then return format('R %016.0f', version) end
local is_duplicate = self and batch < self.next
if not known and call('EXISTS', LOG, QUEUE, LEASES, SLOTS, OWNERS, EXPIRIES) > 0 then
  -- Redis may have evicted the state and kept other keys of it. The script removes these keys, but no value of another
  -- program.
  local kinds = { 'string', 'zset', 'zset', 'string', 'hash', 'zset' }
  for index, kind in ipairs(kinds) do
    local name = KEYS[index + 1]
    local found = call('TYPE', name).ok
    if found ~= kind and found ~= 'none' then
      return redis.error_reply('WRONGTYPE the key ' .. name .. ' does not belong to a throttle')
    end
  end
  call('UNLINK', LOG, QUEUE, LEASES, SLOTS, OWNERS, EXPIRIES)
end
-- Whether the permissions of earlier replies become void.
local is_withdrawn = false
do
  local members, index = {}, 1
  while words[index] do
    local word = words[index]
    if not WORDS[word] then return redis.error_reply('ERR headgate: no such command: ' .. word) end
    -- A request of a new batch is a new request, so it is searched only in a duplicate, and while QUEUE has waiters of
    -- removed owners.
    if queue_apart and (word == 'C' or word == 'W'
      or ((word == 'A' or word == 'B') and (is_duplicate or queue_length > waiting))) then
      members[#members + 1] = owner .. '.' .. words[index + 1] .. ' ' .. words[index + 2]
    end
    index = index + WORDS[word]
  end
  local is_new = not self
  if is_new then
    self = { next = 0, limit = concurrency, leases = 0, waiters = 0, cost = 0, birth = ticket, expiry = now + ttl }
    add_owner(owner, self)
  end
  for from = 1, #members, 4000 do
    local part = call('ZMSCORE', QUEUE, unpack(members, from, min(from + 3999, #members)))
    for place, found in ipairs(part) do
      local member = members[from + place - 1]
      tickets[member] = not left[member] and tonumber(found or nil) or false
      -- A waiter of a removed owner of the same name.
      if tickets[member] and (is_new or not find_ticket(member, self)) then
        tickets[member], left[member], queue_length, front = false, true, queue_length - 1, nil
        add_queued(parse(match(member, '%S+$')), -1)
      end
    end
  end
end
self.expiry, self.is_changed = now + ttl, true
if not is_duplicate then self.next, self.limit = batch + 1, concurrency end
last_expiry = max(last_expiry, self.expiry)
