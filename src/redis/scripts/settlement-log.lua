-- The log of grants, so that the cost of a grant can be corrected later, as in `../../core/settlement-log.ts`. LOG is a
-- string of at most MOST_LOGGED entries of 16 bytes: the instant and the cost of each grant, as two doubles. A change
-- of the limits takes two entries: the instant and -1, then the rate and the burst. Only a gate with a rate has a log.
-- `settlement` packs the `base` level after the entry `folded`, its instant `base_at`, the limits at that instant, and
-- the `peaks` of the level before. Grants up to `ignored` happened before the rate was limited.
--
-- A gate without a rate needs none of these functions, and to make a function takes time.
--
-- Needs the bucket, `grants`, `folded`, `created_at`, `settlement`. Defines:
local base, base_at, base_rate, base_burst, ignored, peaks
local logged = {}
local read_settlement, begin_log, flush_log, trim_log, settle
if has_rate then
  local MOST_LOGGED, MOST_PEAKS = 128, 64
  function read_settlement()
    if base then return end
    if settlement == '' then
      base, base_at, base_rate, base_burst, ignored, peaks = burst, created_at, rate, burst, 0, {}
    else base, base_at, base_rate, base_burst, ignored, peaks = cmsgpack.unpack(settlement) end
  end
  function begin_log(first_ignored, first_peaks)
    call('UNLINK', LOG)
    base, base_at, base_rate, base_burst, folded = tokens, since, rate, burst, grants
    ignored, peaks, logged = first_ignored, first_peaks, {}
  end
  function flush_log()
    if not logged[1] then return end
    local entries = table.concat(logged)
    -- An expired log may outlive its state by a millisecond.
    if grants - folded == #logged then
      call('SET', LOG, entries)
      keys_expiry = 0
    else call('APPEND', LOG, entries) end
    logged = {}
  end
  -- Returns the log, or nil if Redis has lost it.
  local function read_log()
    flush_log()
    local log = grants > folded and call('GET', LOG) or ''
    if #log == 16 * (grants - folded) then return log end
  end
  -- Replays the first entries, and never splits the two of a change. Stores the room before each grant in `rooms`.
  -- Returns the level, its instant, the limits, and the number of entries.
  local function replay(log, count, rooms)
    local height, instant, speed, size, entry = base, base_at, base_rate, base_burst, 0
    while entry < count do
      entry = entry + 1
      local time, cost = struct.unpack('>dd', log, entry * 16 - 15)
      height, instant = min(size, height + max(0, time - instant) * speed), time
      local room = size - height
      if cost >= 0 then height = height - cost
      else
        -- Tokens above the smaller burst are lost: the change is a peak.
        speed, size = struct.unpack('>dd', log, entry * 16 + 1)
        room = max(0, min(room, size - height))
        height, entry = min(size, height), entry + 1
      end
      if rooms then rooms[entry] = room end
    end
    return height, instant, speed, size, entry
  end
  -- Folds the first entries into the base, and returns the rest of the log.
  local function fold(log, count)
    local rooms, found, least = {}, {}, math.huge
    base, base_at, base_rate, base_burst, count = replay(log, count, rooms)
    for entry = count, 1, -1 do
      if rooms[entry] and rooms[entry] < least then
        least = rooms[entry]
        found[#found + 1] = { folded + entry - 1, least }
      end
    end
    for index = #peaks, 1, -1 do
      if peaks[index][2] < least then found[#found + 1] = peaks[index] end
    end
    peaks, folded = {}, folded + count
    for index = #found, 1, -1 do peaks[#peaks + 1] = found[index] end
    -- Merges similar neighbours: the higher peak counts for all grants before the later one.
    local grain = burst / 512
    while #peaks > MOST_PEAKS do
      local merged = {}
      for _, peak in ipairs(peaks) do
        local last = merged[#merged]
        if last and peak[2] - last[2] < grain then last[1] = peak[1] else merged[#merged + 1] = peak end
      end
      peaks, grain = merged, grain * 2
    end
    return sub(log, count * 16 + 1)
  end
  -- Starts a new log after a loss. A peak without room: earlier grants are never refunded.
  local function renew_log() begin_log(ignored, { { grants, 0 } }) end
  function trim_log()
    if grants - folded <= MOST_LOGGED then return end
    read_settlement()
    local log = read_log()
    if log then
      call('SET', LOG, fold(log, grants - folded - MOST_LOGGED / 2))
      keys_expiry = 0
    else renew_log() end
  end
  -- Corrects the cost of a folded grant, or of a forgotten one (number -1).
  local function correct_folded(number, difference)
    local index = 1
    while peaks[index] and peaks[index][1] < number do index = index + 1 end
    local change = -difference
    if peaks[index] then change = min(change, peaks[index][2]) end
    base = base + change
    for later = index, #peaks do peaks[later][2] = peaks[later][2] - change end
    while peaks[index] and index > 1 and peaks[index - 1][2] >= peaks[index][2] do
      table.remove(peaks, index - 1)
      index = index - 1
    end
  end
  -- Sets the level that a request of the true cost would have left.
  function settle(cost, requested, granted, number)
    if capacity < 0 or number <= 0 then return end
    read_settlement()
    if granted < created_at or number > grants then number = -1 elseif number <= ignored then return end
    -- A forgotten grant can leave a debt, but gets no refund.
    if number < 0 and cost < requested then return end
    local log = read_log()
    if not log then
      renew_log()
      log = ''
    end
    if number > folded then
      local first = (number - folded) * 16 - 15
      local entry = struct.pack('>dd', struct.unpack('>d', log, first), cost)
      call('SETRANGE', LOG, first - 1, entry)
      log = sub(log, 1, first - 1) .. entry .. sub(log, first + 16)
    else correct_folded(number, cost - requested) end
    tokens, since = replay(log, grants - folded)
  end
end
