/**
 * Forgets the state of a throttle, and tells everyone who was in it: who held a lease has lost it, who waits comes
 * again. What the keys hold is told in `step.ts`.
 */
export const RESET: string = /* lua */ `
local STATE, QUEUE, LEASES = unpack(KEYS)
local call = redis.call
local messages = {}
local function tell(item, event)
  local whom, serial = string.match(item, '^(%S*)%.(%S*)')
  local events = messages[whom] or {}
  messages[whom] = events
  events[#events + 1] = event .. ' ' .. serial
end
for _, lease in ipairs(call('HKEYS', LEASES)) do tell(lease, 'X') end
for _, waiter in ipairs(call('ZRANGE', QUEUE, 0, -1)) do tell(waiter, 'Z') end
for whom, events in pairs(messages) do
  local hub, instance = string.match(whom, '^(.-)%.(.*)$')
  call('PUBLISH', 'headgate:' .. hub, instance .. '\\n' .. table.concat(events, '\\n'))
end
return call('DEL', unpack(KEYS))
`;
