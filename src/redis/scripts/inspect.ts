/** Reads the state of a throttle, changing nothing. What the keys hold is told in `step.ts`. */
export const INSPECT: string = /* lua */ `
local STATE, QUEUE, LEASES = unpack(KEYS)
local call = redis.call
local clock = tonumber(ARGV[1])
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000000 + time[2]
end
return {
  string.format('%.0f', math.max(clock, tonumber(call('HGET', STATE, 'at')) or 0)),
  call('HMGET', STATE, 'capacity', 'period', 'burst', 'tokens', 'since', 'paused'),
  call('HGETALL', LEASES),
  call('ZRANGE', QUEUE, 0, -1, 'WITHSCORES'),
}
`;
