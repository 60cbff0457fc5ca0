-- The rates of a gate, and the costs of a request.
--
-- The header of a batch states the rates. Most gates have one bucket without a name, or no rate (capacity -1):
-- `capacity period burst`. All other gates have one `name capacity period burst` for each rate, separated by `;`. The
-- name is `=name`, or `-` for a rate without one. A name has no other characters than letters, digits and `%_.-`. A
-- sliding window has another word, `w`: its `burst` tokens start in any `period`.
--
-- A cost is `[slots/]cost[;name=cost]...`, in a request, in the queue and in the item of a lease. A number alone is
-- the cost for every rate. Otherwise the first cost is for each rate without a name, and a rate with a name has a cost
-- of its own, 0 if there is none. Without `slots`, a permit has one slot. So a cost stays valid when the rates change.
--
-- A gate with one bucket without a name keeps the bucket in the fields of the state, as most gates do. Any other gate
-- keeps its rates at the end of the state: `terms`, the text as above, and `levels`, for each rate the doubles
-- `tokens`, `since`, `rate`, `burst`, `queued`, and `tag` (ends with a zero byte), then the size of all these as an
-- integer. The fast path reads and writes only `levels`, of gates without a window.
--
-- Each rate is a table: `capacity`, `period`, `burst`, `tag` (`;name=`, empty without a name), `queued` (the cost of
-- all waiters, for a rate with a name), and `rate` (the tokens per microsecond of a bucket, the period of a window). A
-- bucket has the level `tokens` at the instant `since`, and `column`, its place in the log. A window has the fields of
-- `window.lua`.
--
-- Needs the state, `flags`. Defines `rates`, `buckets` (their number), `has_windows`, and:
local rates, buckets, has_windows = {}, 0, false
local function read_terms(text)
  local found, columns, windows = {}, 0, false
  if find(text, '^-?%d') then text = '- ' .. text end
  for name, size, span, most, kind in string.gmatch(text, '([=-][^ ;]*) (%S+) (%S+) ([^ ;]+) ?(w?)') do
    size = tonumber(size)
    if size >= 0 then
      local each = { capacity = size, period = tonumber(span), burst = tonumber(most), since = now, queued = 0 }
      each.tag = name == '-' and '' or ';' .. sub(name, 2) .. '='
      each.rate, each.tokens = kind == 'w' and each.period or size / each.period, each.burst
      if kind == 'w' then each.lasts, each.sums, each.start, each.ignored, windows = {}, {}, 0, 0, true
      else
        columns = columns + 1
        each.column = columns
      end
      found[#found + 1] = each
    end
  end
  return found, columns, windows
end
if terms ~= '' then
  rates, buckets, has_windows = read_terms(terms)
  local place = 1
  for _, rate in ipairs(rates) do
    rate.tokens, rate.since, rate.rate, rate.burst, rate.queued, rate.tag, place =
      struct.unpack('>ddddds', levels, place)
  end
elseif capacity >= 0 then
  rates[1] = { capacity = capacity, period = period, rate = rate, burst = burst, tokens = tokens, since = since,
    column = 1, tag = '', queued = 0 }
  buckets = 1
end
local has_rates = rates[1] ~= nil or not known or find(flags, 'c', 1, true)
-- The costs that this batch has read, by their texts: the cost of each rate, `main`, and `slots`.
local parsed = {}
local function parse(written)
  local costs, text = parsed[written], written
  if costs then return costs end
  local number = tonumber(text)
  costs = { main = number, slots = 1 }
  if not number then
    local count, rest = match(text, '^(%d+)/(.*)$')
    if count then text, costs.slots = rest, tonumber(count) end
    number = tonumber(text)
    costs.main = number or tonumber(match(text, '^[^;]*'))
  end
  for index, each in ipairs(rates) do
    costs[index] = costs.main
    if not number and each.tag ~= '' then
      local _, till = find(text, each.tag, 1, true)
      costs[index] = till and tonumber(match(text, '^[^;]*', till + 1)) or 0
    end
  end
  parsed[written] = costs
  return costs
end
