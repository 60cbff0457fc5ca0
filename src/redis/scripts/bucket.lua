-- The token bucket, as in `../../core/token-bucket.ts`.
--
-- Needs `capacity`, `rate`, `burst`, `tokens`, `since`. Defines:
local function level(instant)
  if instant > since then return min(burst, tokens + (instant - since) * rate) end
  return tokens
end
-- The earliest instant from `from` on at which `cost` fits.
local function ready_at(from, cost)
  if capacity < 0 then return from end
  local have = level(from)
  -- A cost of 0 takes no token, so it never waits for a debt.
  if cost == 0 or cost - have <= burst * 1e-12 then return from end
  if have < burst then return min(FOREVER, ceil(since + (cost - tokens) / rate)) end
  return min(FOREVER, ceil(from + (cost - burst) / rate))
end
