-- The log of grants, so that the cost of a grant can be corrected later, as in `../../core/settlement-log.ts`. LOG is a
-- string of at most MOST_LOGGED entries of one double for the instant of a grant, and one for the cost of each bucket.
-- The log has the grants from the number `folded` on. A change of the limits of a gate with one bucket takes two
-- entries: the instant and -1, then the rate and the burst. Only a gate with a bucket has a log.
--
-- Each bucket has a memory: the level `base` after the grant `folded` of its own, which the log may still have, its
-- instant `at`, the limits `rate` and `burst` at that instant, and the `peaks` of the level before. Grants up to
-- `ignored` happened before the bucket began, or before its level was corrected. `settlement` packs, for each rate,
-- the six values of a bucket or the counters of a window.
--
-- A gate without a rate needs none of these functions, and to make a function takes time.
--
-- Needs the rates, `level`, `grants`, `folded`, `created_at`, `settlement`. Defines:
local logged, is_read = {}, false
local read_settlement, begin_memory, take_over, fold_all, flush_log, trim_log, settle, correct, lower, spend
local stride = 8 + 8 * buckets
if has_rates then
  local MOST_LOGGED, MOST_PEAKS = 128, 64
  function begin_memory(rate, peaks, ignored)
    rate.memory = { base = rate.tokens, at = rate.since, rate = rate.rate, burst = rate.burst, peaks = peaks,
      ignored = ignored, folded = grants }
  end
  function read_settlement()
    if is_read then return end
    is_read = true
    local packs = settlement ~= '' and { cmsgpack.unpack(settlement) } or {}
    for index, rate in ipairs(rates) do
      local pack = packs[index]
      if rate.lasts then
        if pack then rate.lasts, rate.sums, rate.start, rate.ignored = unpack(pack) end
      elseif pack then
        rate.memory = { base = pack[1], at = pack[2], rate = pack[3], burst = pack[4], ignored = pack[5],
          peaks = pack[6], folded = pack[7] or folded }
      else
        rate.memory = { base = rate.burst, at = created_at, rate = rate.rate, burst = rate.burst, ignored = 0,
          peaks = {}, folded = 0 }
      end
    end
  end
  function flush_log()
    if not logged[1] then return end
    local entries = table.concat(logged)
    -- The first entries replace a log that has outlived its state by a millisecond. If APPEND creates the log, Redis
    -- has evicted the earlier one. A new log has no expiry yet.
    local is_first = grants - folded == #logged
    if is_first then call('SET', LOG, entries) end
    if is_first or call('APPEND', LOG, entries) == #entries then keys_expiry = 0 end
    logged = {}
  end
  -- Returns the log, or nil if Redis has lost it.
  local function read_log()
    flush_log()
    local log = grants > folded and call('GET', LOG) or ''
    if #log == stride * (grants - folded) then return log end
  end
  -- Replays the entries of a bucket up to the number `till`, and never splits the two of a change. Stores the room
  -- before each grant in `rooms`. Returns the level, its instant, the limits, and the number of the last entry.
  local function replay(rate, log, till, rooms)
    local memory = rate.memory
    local height, instant, speed, size, entry = memory.base, memory.at, memory.rate, memory.burst, memory.folded
    while entry < till do
      local place = (entry - folded) * stride + 1
      local time, cost = struct.unpack('>d', log, place), struct.unpack('>d', log, place + 8 * rate.column)
      entry = entry + 1
      height, instant = min(size, height + max(0, time - instant) * speed), time
      local room = size - height
      if cost >= 0 then height = height - cost
      else
        -- Tokens above the smaller burst are lost: the change is a peak.
        speed, size = struct.unpack('>dd', log, place + stride)
        room = max(0, min(room, size - height))
        height, entry = min(size, height), entry + 1
      end
      if rooms then rooms[entry] = room end
    end
    return height, instant, speed, size, entry
  end
  -- Folds the entries of a bucket up to the number `till` into its memory. Returns the number of the last entry.
  local function fold(rate, log, till)
    local memory, rooms, found, least = rate.memory, {}, {}, math.huge
    local first, last = memory.folded, nil
    if first >= till then return till end
    memory.base, memory.at, memory.rate, memory.burst, last = replay(rate, log, till, rooms)
    for entry = last, first + 1, -1 do
      if rooms[entry] and rooms[entry] < least then
        least = rooms[entry]
        found[#found + 1] = { entry - 1, least }
      end
    end
    local peaks = memory.peaks
    for index = #peaks, 1, -1 do
      if peaks[index][2] < least then found[#found + 1] = peaks[index] end
    end
    peaks, memory.folded = {}, last
    for index = #found, 1, -1 do peaks[#peaks + 1] = found[index] end
    -- Merges similar neighbours: the higher peak counts for all grants before the later one.
    local grain = rate.burst / 512
    while #peaks > MOST_PEAKS do
      local merged = {}
      for _, peak in ipairs(peaks) do
        local newest = merged[#merged]
        if newest and peak[2] - newest[2] < grain then newest[1] = peak[1] else merged[#merged + 1] = peak end
      end
      peaks, grain = merged, grain * 2
    end
    memory.peaks = peaks
    return last
  end
  -- Starts a new log after a loss. A peak without room: earlier grants are never refunded.
  local function renew_log()
    call('UNLINK', LOG)
    folded, logged = grants, {}
    for _, rate in ipairs(rates) do
      if rate.column then begin_memory(rate, { { grants, 0 } }, rate.memory.ignored) end
    end
  end
  -- Folds the first entries of the log for all buckets, and returns the rest of it; nil if Redis has lost the log.
  function fold_all(till)
    read_settlement()
    local log = read_log()
    if not log then return renew_log() end
    local last = till
    for _, rate in ipairs(rates) do
      if rate.column then last = max(last, fold(rate, log, till)) end
    end
    log, folded = sub(log, (last - folded) * stride + 1), last
    return log
  end
  -- Gives a rate the level and the memory of an earlier rate, whose log is folded.
  function take_over(rate, earlier)
    local before = level(earlier, now)
    rate.queued = earlier.queued
    if rate.lasts then
      -- A grant that has left a shorter window never returns.
      rate.lasts, rate.sums, rate.start, rate.ignored = earlier.lasts, earlier.sums, earlier.start, earlier.ignored
      return
    end
    rate.tokens = min(rate.burst, before)
    begin_memory(rate, earlier.memory.peaks, earlier.memory.ignored)
    -- Tokens above the smaller burst are lost: the change is a peak.
    local peaks, room = rate.memory.peaks, max(0, min(earlier.burst, rate.burst) - before)
    while peaks[1] and peaks[#peaks][2] >= room do peaks[#peaks] = nil end
    peaks[#peaks + 1] = { grants, room }
  end
  function trim_log()
    if grants - folded <= MOST_LOGGED then return end
    local log = fold_all(grants - MOST_LOGGED / 2)
    if log then
      call('SET', LOG, log)
      keys_expiry = 0
    end
  end
  -- Corrects the cost of a folded grant, or of a forgotten one (number -1).
  local function correct_folded(memory, number, difference)
    local peaks, index = memory.peaks, 1
    while peaks[index] and peaks[index][1] < number do index = index + 1 end
    local change = -difference
    if peaks[index] then change = min(change, peaks[index][2]) end
    memory.base = memory.base + change
    for later = index, #peaks do peaks[later][2] = peaks[later][2] - change end
    while peaks[index] and index > 1 and peaks[index - 1][2] >= peaks[index][2] do
      table.remove(peaks, index - 1)
      index = index - 1
    end
  end
  -- Sets the level of a bucket that a request of the true cost would have left.
  local function settle_bucket(rate, cost, requested, number)
    local log = read_log()
    if not log then
      renew_log()
      log = ''
    end
    if number > rate.memory.folded then
      local place = (number - folded - 1) * stride + 8 * rate.column
      call('SETRANGE', LOG, place, struct.pack('>d', cost))
      log = sub(log, 1, place) .. struct.pack('>d', cost) .. sub(log, place + 9)
    else correct_folded(rate.memory, number, cost - requested) end
    rate.tokens, rate.since = replay(rate, log, grants)
  end
  -- Settles the rates whose cost differs in the two texts.
  function settle(cost_text, requested_text, granted, number)
    if not rates[1] or number <= 0 then return end
    read_settlement()
    local costs, requests = parse(cost_text), parse(requested_text)
    local is_forgotten = granted < created_at or number > grants
    for index, rate in ipairs(rates) do
      local cost, requested = costs[index], requests[index]
      local ignored = (rate.memory or rate).ignored
      -- A forgotten grant can leave a debt, but gets no refund.
      if cost ~= requested and (is_forgotten and cost > requested or not is_forgotten and number > ignored) then
        if rate.lasts then sliding.settle(rate, cost - requested, granted)
        else settle_bucket(rate, cost, requested, is_forgotten and -1 or number) end
      end
    end
  end
  -- Takes a cost from each rate, as the grant of the next number.
  function spend(costs)
    grants = grants + 1
    local entry = ''
    for index, rate in ipairs(rates) do
      if rate.lasts then sliding.take(rate, now, costs[index])
      else
        rate.tokens, rate.since = level(rate, now) - costs[index], max(now, rate.since)
        entry = entry .. struct.pack('>d', costs[index])
      end
    end
    if buckets > 0 then logged[#logged + 1] = struct.pack('>d', now) .. entry else folded = grants end
  end
  -- Returns the level that `text` states for a rate, or nil. `text` is a cost, whose first value may be missing.
  local function stated_level(text, rate)
    local value = match(text, '^[^;]*')
    if rate.tag ~= '' then
      local _, till = find(text, rate.tag, 1, true)
      value = till and match(text, '^[^;]*', till + 1)
    end
    value = tonumber(value or nil)
    return value and min(value, rate.burst)
  end
  -- Sets the level of the rates that `text` mentions.
  function correct(text)
    read_settlement()
    for _, rate in ipairs(rates) do
      local value = stated_level(text, rate)
      if value and rate.lasts then
        sliding.correct(rate, value)
        rate.ignored = grants
      elseif value then
        rate.tokens, rate.since = value, now
        begin_memory(rate, {}, grants)
      end
    end
  end
  -- Lowers the levels to those that `text` states, as one grant of the missing tokens would. So a later settlement of
  -- an earlier grant still counts.
  function lower(text)
    read_settlement()
    local missing, is_lower = {}, false
    for index, rate in ipairs(rates) do
      local value, present = stated_level(text, rate), level(rate, now)
      missing[index] = value and max(0, present - value) or 0
      is_lower = is_lower or missing[index] > 0
    end
    if is_lower then spend(missing) end
  end
  if has_windows then read_settlement() end
end
