-- The sliding window: at most `burst` tokens start in any rolling `period`. `../../core/sliding-window.ts` records each
-- grant; here, all grants of a part of the period share one counter, so that a window has at most PARTS + 1 counters.
--
-- A counter opens with a grant, and the grants of the next 1/PARTS of the period are added to it. It counts until the
-- period after its last grant has passed. So no period ever starts more than `burst`: a grant counts for one period at
-- least, and for 1/PARTS of it longer at most. A used-up window thus takes at most 1 + 1/PARTS periods, and loses at
-- most 1/(PARTS + 1) of the throughput: 1/64. Grants that are further apart count exactly.
--
-- Each counter is in `lasts` (the instant of its last grant) and `sums` (the true costs), oldest first. `start`: the
-- first grant of the newest counter. The cost of a grant up to the number `ignored` is not corrected any more.
--
-- Needs the rates. Defines, if the gate has a window or may get one:
local sliding = {}
if has_windows or (has_rates and find(given_rates, ' w', 1, true)) then
  local PARTS = 63
  local function expire(rate, instant)
    local lasts, sums, count = rate.lasts, rate.sums, 0
    while lasts[count + 1] and lasts[count + 1] + rate.period <= instant do count = count + 1 end
    if count == 0 then return end
    local kept_lasts, kept_sums = {}, {}
    for index = count + 1, #lasts do kept_lasts[index - count], kept_sums[index - count] = lasts[index], sums[index] end
    rate.lasts, rate.sums = kept_lasts, kept_sums
  end
  function sliding.level(rate, instant)
    expire(rate, instant)
    local left = rate.burst
    for _, sum in ipairs(rate.sums) do left = left - sum end
    return left
  end
  function sliding.ready_at(rate, from, cost)
    local burst, total, slack = rate.burst, 0, rate.burst * 1e-11
    for _, sum in ipairs(rate.sums) do total = total + sum end
    -- A queue needs one more period for each full `burst` ahead of its last cost.
    local periods = max(0, ceil(cost / burst - 1e-12) - 1)
    local over, instant = total + (cost - periods * burst) - burst, from
    for index, last in ipairs(rate.lasts) do
      if over > slack or last + rate.period <= from then
        over = over - rate.sums[index]
        instant = max(from, last + rate.period)
      end
    end
    return min(FOREVER, ceil(instant + periods * rate.period))
  end
  -- Adds a cost at the newest instant.
  function sliding.take(rate, instant, cost)
    expire(rate, instant)
    local lasts, sums = rate.lasts, rate.sums
    local count = #lasts
    if count > 0 and instant < rate.start + rate.period / PARTS then
      lasts[count], sums[count] = max(instant, lasts[count]), sums[count] + cost
    else lasts[count + 1], sums[count + 1], rate.start = instant, cost, instant end
  end
  -- Adds to the counter of the grant at `granted`, if that still counts.
  function sliding.settle(rate, difference, granted)
    expire(rate, now)
    if granted + rate.period <= now then return end
    for index, last in ipairs(rate.lasts) do
      if last >= granted then
        rate.sums[index] = rate.sums[index] + difference
        return
      end
    end
    sliding.take(rate, granted, max(0, difference))
  end
  -- Sets the level. A lower one counts from now on; a higher one takes from the oldest counters.
  function sliding.correct(rate, value)
    local more = sliding.level(rate, now) - value
    for index, sum in ipairs(rate.sums) do
      local taken = max(0, min(sum, -more))
      rate.sums[index], more = sum - taken, more + taken
    end
    if more > 0 then sliding.take(rate, now, more) end
  end
  -- The instant from which the window is empty.
  function sliding.full_at(rate)
    local instant = 0
    for index, last in ipairs(rate.lasts) do
      if rate.sums[index] > rate.burst * 1e-11 then instant = last + rate.period end
    end
    return instant
  end
end
