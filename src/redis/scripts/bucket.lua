-- The token bucket, as in `../../core/token-bucket.ts`.
--
-- Needs `capacity`, `rate`, `burst`, `tokens`, `since`. Defines, unless the gate has no rate and gets none:
local level, ready_at
local has_rate = capacity >= 0 or not known or find(flags, 'c', 1, true)
if has_rate then
  function level(instant)
    if instant > since then return min(burst, tokens + (instant - since) * rate) end
    return tokens
  end
  -- The earliest instant from `from` on at which `cost` fits.
  function ready_at(from, cost)
    local have = level(from)
    -- A cost of 0 takes no token, so it never waits for a debt.
    if cost == 0 or cost - have <= burst * 1e-12 then return from end
    if have < burst then return min(FOREVER, ceil(since + (cost - tokens) / rate)) end
    return min(FOREVER, ceil(from + (cost - burst) / rate))
  end
end
