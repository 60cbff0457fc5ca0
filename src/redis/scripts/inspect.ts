/** Reads the state of a throttle without a change. `step.ts` describes the keys. */
export const INSPECT: string = /* lua */ `
local STATE, QUEUE, LEASES, OWNERS = unpack(KEYS)
local call, format = redis.call, string.format
local clock = tonumber(ARGV[1])
if not clock then
  local time = call('TIME')
  clock = time[1] * 1000000 + time[2]
end
local numbers = {}
local packed = call('GET', STATE)
if packed then
  if string.sub(packed, 1, 9) ~= '\\168headgate' then
    return redis.error_reply('WRONGTYPE the key does not hold the state of a throttle')
  end
  local _, at, _, capacity, period, burst, tokens, since, paused = cmsgpack.unpack(packed)
  clock = math.max(clock, at)
  for index, number in ipairs({ capacity, period, burst, tokens, since, paused }) do
    numbers[index] = format('%.17g', number)
  end
end
return {
  format('%.0f', clock), numbers, call('HGETALL', LEASES),
  call('ZRANGE', QUEUE, 0, -1, 'WITHSCORES'), call('ZRANGE', OWNERS, 0, -1, 'WITHSCORES'),
}
`;
