-- The token bucket, as in `../../core/token-bucket.ts`, and what all rates of a gate say together.
--
-- Needs the rates and the windows. Defines, unless the gate has no rate and gets none:
local level, ready_at, all_ready_at
if has_rates then
  function level(rate, instant)
    if rate.lasts then return sliding.level(rate, instant) end
    if instant > rate.since then return min(rate.burst, rate.tokens + (instant - rate.since) * rate.rate) end
    return rate.tokens
  end
  -- The earliest instant from `from` on at which `cost` fits.
  function ready_at(rate, from, cost)
    -- A cost of 0 takes no token, so it never waits for a debt.
    if cost == 0 then return from end
    if rate.lasts then return sliding.ready_at(rate, from, cost) end
    local have, burst = level(rate, from), rate.burst
    if cost - have <= burst * 1e-12 then return from end
    if have < burst then return min(FOREVER, ceil(rate.since + (cost - rate.tokens) / rate.rate)) end
    return min(FOREVER, ceil(from + (cost - burst) / rate.rate))
  end
  -- The earliest instant from `from` on at which all rates have room for `costs`, behind all waiters if `queues`.
  function all_ready_at(from, costs, queues)
    local latest = from
    for index, rate in ipairs(rates) do
      local ahead = 0
      -- The costs by name of waiters of removed owners are unknown until these waiters have left the queue.
      if queues then ahead = rate.tag == '' and queued or queue_length == waiting and rate.queued or 0 end
      latest = max(latest, ready_at(rate, from, ahead + costs[index]))
    end
    return latest
  end
end
-- The first rate that can never grant such costs. A gate without a rate has one number for all.
local function is_oversize(costs)
  if not rates[1] then return costs.main > burst end
  for index, rate in ipairs(rates) do
    if costs[index] > rate.burst then return rate end
  end
end
local function oversize_event(serial, costs)
  local rate = is_oversize(costs)
  if rate == true then return format('O %s %.17g', serial, burst) end
  return format('O %s %.17g %s', serial, rate.burst, sub(rate.tag, 2, -2))
end
