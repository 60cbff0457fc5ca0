-- The fast path: releases, and requests that fit, of a known owner while no caller waits. It reads and writes only the
-- string of the state, and appends to the log of grants. It makes no function, since that costs as much as a command of
-- Redis. Any other batch is left to the full step, and nothing is changed for it: also a request or a release of
-- several slots, and a gate with a sliding window.
--
-- Needs the arguments. Defines `packed`, the state as Redis stores it, and `clock`, the time of the server (nil if it
-- was not read).
-- `state.lua` describes the string. Its tenth character says whether the fast path may serve: `q` without a rate and a
-- burst, `r` with one bucket and a log, `m` with several buckets and a log, see `rates.lua`.
local packed, clock = redis.call('GET', KEYS[1]), nil
do
  local call, byte, find, match, sub = redis.call, string.byte, string.find, string.match, string.sub
  local kind = packed and sub(packed, 1, 10)
  local place = (kind == 'headgate2q' or kind == 'headgate2r' or kind == 'headgate2m')
    and (flags == '-' or flags == 'l') and find(packed, '\n' .. owner .. ' ', 235, true)
  if place then
    local unpack, pack = struct.unpack, struct.pack
    local at, next_expiry, last_expiry, active, owners_size, leases_size, slots_size, permissions_size, version =
      unpack('>ddddI4I4I4I4c16', packed, 11)
    place = place + #owner + 2
    local next_batch, expiry, limit, held = unpack('>dddd', packed, place)
    clock = given_clock
    if not clock then
      local time = call('TIME')
      clock = time[1] * 1000000 + time[2]
    end
    local now = clock
    if batch == next_batch and now >= at and now < next_expiry then
      limit, expiry = concurrency, now + ttl
      if expiry > last_expiry then last_expiry = expiry end
      local leases_at = 235 + owners_size
      local slots_at = leases_at + leases_size
      local permissions_at = slots_at + slots_size
      local slots = sub(packed, slots_at, permissions_at - 1)
      local limited = kind ~= 'headgate2q'
      local rates, needed, log, keys_expiry = sub(packed, 75, 130), last_expiry, '', unpack('>d', packed, 123)
      local tokens, since, rate, burst, grants, folded
      -- Six values for each of several rates: tokens, since, rate, burst, queued, tag. `levels_at`: their place.
      local levels, levels_at, stride
      if limited then
        tokens, since, rate, burst, grants, folded = unpack('>dddddd', rates)
        stride = 16
        if kind == 'headgate2m' then
          levels, levels_at, stride = {}, #packed - 3 - unpack('>I4', packed, #packed - 3), 8
          local from, count = levels_at, 0
          while from < #packed - 3 do
            levels[count + 1], levels[count + 2], levels[count + 3], levels[count + 4], levels[count + 5],
              levels[count + 6], from = unpack('>ddddds', packed, from)
            count, stride = count + 6, stride + 8
          end
        end
      end
      -- The commands. Texts that grow with the batch are built in parts: each change copies the whole text.
      local commands, at_word, prefix, grant_instant = ARGV[1], commands_at, '\n' .. owner .. '.', nil
      -- The serials and items of the grants: a text of the only one, or a table of several.
      local only, several
      -- The released lines: the first and the last place of each, in order. Most releases come in this order.
      local cuts, cut_till
      -- The numbers of the released slots, as texts in order: those from `next_freed` on are not taken again. `slots`
      -- still marks all of them as taken.
      local freed, next_freed
      while at_word <= #commands do
        local word = byte(commands, at_word)
        if word == 82 then -- R
          local _, till, serial = find(commands, '^(%S+)\n', at_word + 2)
          local id = prefix .. serial .. ' '
          local from = cuts and find(packed, id, cut_till + 1, true) or find(packed, id, leases_at, true)
          if from and from < slots_at then
            local _, line_till, slot = find(packed, '^(%d+) [^\n]*', from + #id)
            if not slot or slot == '0' then break end
            -- The last line ends where the slots begin.
            if line_till >= slots_at then line_till = slots_at - 1 end
            cut_till, leases_size = line_till, leases_size - (line_till - from + 1)
            if cuts then
              local index = #cuts
              while index > 0 and cuts[index - 1] > from do
                cuts[index + 1], cuts[index + 2], index = cuts[index - 1], cuts[index], index - 2
              end
              if cuts[index - 1] == from then break end
              cuts[index + 1], cuts[index + 2], index = from, cut_till, #freed
              while index >= next_freed and freed[index] - slot > 0 do
                freed[index + 1], index = freed[index], index - 1
              end
              freed[index + 1] = slot
            else cuts, freed, next_freed = { from, cut_till }, { slot }, 1 end
            active, held = active - 1, held - 1
          elseif grant_instant then break end
          at_word = till + 1
        elseif word == 65 or word == 66 and levels then -- A, B
          local _, till, serial, cost = find(commands, '^(%S+)\n(%S+)\n%S+\n', at_word + 2)
          if limit >= 0 and active >= limit then break end
          local slot, number = find(slots, '0', 1, true) or #slots + 1, ' 0'
          local freed_slot = freed and freed[next_freed]
          if freed_slot and freed_slot - slot < 0 then slot, next_freed = freed_slot, next_freed + 1
          elseif slot > 64 then break
          else slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1) end
          if levels then
            local spent = tonumber(cost)
            local main, fits = spent or tonumber(match(cost, '^[^;]*')), grants - folded < 128
            if not main then break end
            log, grants, number = log .. pack('>d', now), grants + 1, ' ' .. grants + 1
            for index = 1, #levels, 6 do
              local price, size, tag = main, levels[index + 3], levels[index + 5]
              if not spent and tag ~= '' then
                local _, till = find(cost, tag, 1, true)
                price = till and tonumber(match(cost, '^[^;]*', till + 1)) or 0
              end
              tokens = levels[index] + (now - levels[index + 1]) * levels[index + 2]
              if tokens > size then tokens = size end
              if price ~= 0 and price - tokens > size * 1e-12 then fits = false end
              levels[index], levels[index + 1], log = tokens - price, now, log .. pack('>d', price)
            end
            if not fits then break end
          elseif limited then
            local spent = tonumber(cost)
            if now > since then
              tokens = tokens + (now - since) * rate
              if tokens > burst then tokens = burst end
              since = now
            end
            if spent ~= 0 and spent - tokens > burst * 1e-12 or grants - folded >= 128 then break end
            tokens, grants = tokens - spent, grants + 1
            log = log .. pack('>dd', since, spent)
            number = ' ' .. grants
          end
          -- In two halves, as `digits` of the full step prints it.
          grant_instant = grant_instant or string.format(' %d%06d ', now / 1000000, now % 1000000)
          local line = serial .. ' ' .. slot .. grant_instant .. cost .. number
          if several then several[#several + 1] = line
          elseif only then several = { only, line }
          else only = line end
          active, held, at_word = active + 1, held + 1, till + 1
        else break end
      end
      local is_served = at_word > #commands
      if is_served and limited then
        if levels then
          for index = 1, #levels, 6 do
            local full = levels[index + 1] + (levels[index + 3] - levels[index]) / levels[index + 2]
            if full > needed then needed = full end
          end
        else
          local full = since + (burst - tokens) / rate
          if full > needed then needed = full end
        end
        rates = pack('>ddddddd', tokens, since, rate, burst, grants, folded, keys_expiry)
      end
      -- The full step prolongs the keys.
      if needed > keys_expiry then is_served = false end
      -- Released slots may linger if the owner is or comes on record: at most 64 names.
      local permissions, outcome = sub(packed, permissions_at, permissions_at + permissions_size - 1), 'A '
      local lingers = flags == 'l' and not limited and (limit < 0 or active <= limit)
      if is_served and (lingers or permissions_size > 0) then
        local record = '\nL' .. owner .. '\n'
        local on_record = find(permissions, record, 1, true)
        if lingers and on_record then outcome = 'L '
        elseif lingers or on_record or find(permissions, '\nU' .. owner .. '\n', 1, true) then is_served = false end
      end
      if is_served then
        for index = next_freed or 1, freed and #freed or 0 do
          local slot = freed[index]
          slots = sub(slots, 1, slot - 1) .. '0' .. sub(slots, slot + 1)
        end
        if active == 0 then slots = '' end
        local granted, events = '', ''
        if several then
          granted, events = prefix .. table.concat(several, prefix), '\nG ' .. table.concat(several, '\nG ')
        elseif only then granted, events = prefix .. only, '\nG ' .. only end
        -- From `place + 32` on, the string has the rest of the owners, then the leases.
        local head, kept_from = '', place + 32
        if cuts then
          head, kept_from = sub(packed, kept_from, cuts[1] - 1), cuts[2] + 1
          if cuts[3] then
            local kept = { head }
            for index = 3, #cuts, 2 do
              kept[#kept + 1], kept_from = sub(packed, kept_from, cuts[index] - 1), cuts[index + 1] + 1
            end
            head = table.concat(kept)
          end
        end
        local rest
        if levels and log ~= '' then
          local parts = {}
          for index = 1, #levels, 6 do
            parts[#parts + 1] = pack('>ddddds', levels[index], levels[index + 1], levels[index + 2], levels[index + 3],
              levels[index + 4], levels[index + 5])
          end
          rest = sub(packed, permissions_at, levels_at - 1) .. table.concat(parts) .. sub(packed, -4)
        else rest = sub(packed, permissions_at) end
        call('SET', KEYS[1], kind
          .. pack('>ddddI4I4I4I4', now, next_expiry, last_expiry, active,
            owners_size, leases_size + #granted, #slots, permissions_size)
          .. (limited and version .. rates .. sub(packed, 131, place - 1) or sub(packed, 59, place - 1))
          .. pack('>dddd', next_batch + 1, expiry, limit, held)
          .. head .. sub(packed, kept_from, slots_at - 1) .. granted .. slots .. rest,
          'KEEPTTL')
        if log ~= '' and call('APPEND', KEYS[2], log) ~= stride * (grants - folded) then
          -- Redis has lost the log. A settlement notices that by its length.
          call('PEXPIRE', KEYS[2], math.ceil((keys_expiry - now) / 1000) + 1)
        end
        return outcome .. version .. events
      end
    end
  end
end
