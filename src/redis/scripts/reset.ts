/**
 * Deletes the state of a throttle, and notifies its owners: a holder loses its lease, and a waiter enters the queue
 * again. `step.ts` describes the keys.
 */
export const RESET: string = /* lua */ `
local STATE, QUEUE, LEASES = unpack(KEYS)
local call = redis.call
local messages = {}
local function notify(item, event)
  local recipient, serial = string.match(item, '^(%S*)%.(%S*)')
  local events = messages[recipient] or {}
  messages[recipient] = events
  events[#events + 1] = event .. ' ' .. serial
end
for _, lease in ipairs(call('HKEYS', LEASES)) do notify(lease, 'X') end
for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, -1)) do notify(waiter, 'Z') end
for recipient, events in pairs(messages) do
  local connection, instance = string.match(recipient, '^(.-)%.(.*)$')
  call('PUBLISH', 'headgate:' .. connection, instance .. '\\n' .. table.concat(events, '\\n'))
end
return call('DEL', unpack(KEYS))
`;
