-- The fast path: releases, and requests that fit, of a known owner while no caller waits. It reads and writes only the
-- string of the state, and appends to the log of grants. It makes no function, since that costs as much as a command of
-- Redis. Any other batch is left to the full step, and nothing is changed for it: also a request or a release of
-- several slots, and a gate with a sliding window.
--
-- Defines `packed`, the state as Redis stores it, and `clock`, the time of the server (nil if it was not read).
-- `state.lua` describes the string. Its tenth character says whether the fast path may serve: `q` without a rate, `r`
-- with one bucket and a log, `m` with several buckets and a log, see `rates.lua`.
local packed, clock = redis.call('GET', KEYS[1]), nil
do
  local ARGV, call, find, match, sub = ARGV, redis.call, string.find, string.match, string.sub
  local kind, flags, owner = packed and sub(packed, 1, 10), ARGV[6], ARGV[1]
  local place = (kind == 'headgate1q' or kind == 'headgate1r' or kind == 'headgate1m') and (flags == '' or flags == 'l')
    and find(packed, '\n' .. owner .. ' ', 235, true)
  if place then
    local unpack, pack = struct.unpack, struct.pack
    local at, next_expiry, last_expiry, active, owners_size, leases_size, slots_size, permissions_size, version =
      unpack('>ddddI4I4I4I4c16', packed, 11)
    place = place + #owner + 2
    local next_batch, expiry, limit, held = unpack('>dddd', packed, place)
    clock = tonumber(ARGV[9])
    if not clock then
      local time = call('TIME')
      clock = time[1] * 1000000 + time[2]
    end
    local now, confirmed = clock, tonumber(ARGV[2]) == next_batch
    if confirmed and now >= at and now < next_expiry then
      local ttl = tonumber(ARGV[3])
      limit, expiry = tonumber(ARGV[4]), now + ttl
      if expiry > last_expiry then last_expiry = expiry end
      local leases_at = 235 + owners_size
      local slots_at = leases_at + leases_size
      local permissions_at = slots_at + slots_size
      local leases, slots = sub(packed, leases_at, slots_at - 1), sub(packed, slots_at, permissions_at - 1)
      local limited = kind ~= 'headgate1q'
      local rates, needed, log, tokens, since, rate, burst, grants, folded, keys_expiry
      -- Six values for each of several rates: tokens, since, rate, burst, queued, tag. `levels_at`: their place.
      local levels, levels_at, stride
      needed, rates, log = last_expiry, sub(packed, 75, 130), ''
      if limited then
        tokens, since, rate, burst, grants, folded, keys_expiry = unpack('>ddddddd', rates)
        stride = 16
        if kind == 'headgate1m' then
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
      local prefix, index, word, instant = '\n' .. owner .. '.', 10, ARGV[10], nil
      local granted, granted_part, events, events_part = '', '', '', ''
      -- The places of released lines. `released` has their ids if there are several.
      local cut_from, cut_till, first_id, released
      while word do
        if word ~= 'R' and word ~= 'A' and not (levels and word == 'B') then break end
        local serial = ARGV[index + 1]
        local id = prefix .. serial .. ' '
        if word == 'R' then
          local from = find(leases, id, 1, true)
          if from and id ~= first_id and not (released and released[id]) then
            local slot
            if first_id then
              released = released or { [first_id] = true }
              released[id] = true
            else first_id, cut_from = id, from end
            from, cut_till, slot = find(leases, '^(%d+) [^\n]*', from + #id)
            if not from or slot == '0' then break end
            slots = sub(slots, 1, slot - 1) .. '0' .. sub(slots, slot + 1)
            active, held = active - 1, held - 1
          elseif not from and instant then break end
          index = index + 2
        else
          if limit >= 0 and active >= limit then break end
          local slot, cost, number = find(slots, '0', 1, true) or #slots + 1, ARGV[index + 2], ' 0'
          if slot > 64 then break end
          if levels then
            local spent = tonumber(cost)
            local main, fits = spent or tonumber(match(cost, '^[^;]*')), grants - folded < 128
            if not main then break end
            log, grants, number = log .. pack('>d', now), grants + 1, string.format(' %.0f', grants + 1)
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
            number = string.format(' %.0f', grants)
          end
          instant = instant or string.format('%.0f', now)
          local item = slot .. ' ' .. instant .. ' ' .. cost .. number
          granted_part = granted_part .. id .. item
          events_part = events_part .. '\nG ' .. serial .. ' ' .. item
          if #events_part > 400 then
            granted, granted_part, events, events_part = granted .. granted_part, '', events .. events_part, ''
          end
          slots = sub(slots, 1, slot - 1) .. '1' .. sub(slots, slot + 1)
          active, held = active + 1, held + 1
          index = index + 4
        end
        word = ARGV[index]
      end
      if not word and limited then
        if levels then
          for index = 1, #levels, 6 do
            local full = levels[index + 1] + (levels[index + 3] - levels[index]) / levels[index + 2]
            if full > needed then needed = full end
          end
        else
          local full = since + (burst - tokens) / rate
          if full > needed then needed = full end
        end
        if needed > keys_expiry then word = 'extend'
        else rates = pack('>ddddddd', tokens, since, rate, burst, grants, folded, keys_expiry) end
      end
      -- Released slots may linger if the owner is or comes on record: at most 64 names.
      local permissions, outcome = sub(packed, permissions_at, permissions_at + permissions_size - 1), 'A '
      local lingers = flags == 'l' and not limited and (limit < 0 or active <= limit)
      if not word and (lingers or permissions_size > 0) then
        local record = '\nL' .. owner .. '\n'
        local on_record = find(permissions, record, 1, true)
        if lingers and on_record then outcome = 'L '
        elseif lingers or on_record or find(permissions, '\nU' .. owner .. '\n', 1, true) then word = 'permission' end
      end
      if not word then
        if active == 0 then slots = '' end
        if released then
          local kept = {}
          for line in string.gmatch(leases, '\n[^\n]+') do
            if not released[match(line, '^\n%S+ ')] then kept[#kept + 1] = line end
          end
          leases = table.concat(kept)
        elseif first_id then leases = sub(leases, 1, cut_from - 1) .. sub(leases, cut_till + 1) end
        leases = leases .. granted .. granted_part
        local rest
        if levels and log ~= '' then
          local parts = {}
          for index = 1, #levels, 6 do
            parts[#parts + 1] = pack('>ddddds', levels[index], levels[index + 1], levels[index + 2], levels[index + 3],
              levels[index + 4], levels[index + 5])
          end
          rest = sub(packed, permissions_at, levels_at - 1) .. table.concat(parts) .. sub(packed, -4)
        else rest = sub(packed, permissions_at) end
        call('SET', KEYS[1], sub(packed, 1, 10)
          .. pack('>ddddI4I4I4I4', now, next_expiry, last_expiry, active,
            owners_size, #leases, #slots, permissions_size)
          .. version .. rates .. sub(packed, 131, place - 1) .. pack('>dddd', next_batch + 1, expiry, limit, held)
          .. sub(packed, place + 32, leases_at - 1) .. leases .. slots .. rest,
          'PX', math.ceil((needed - now) / 1000) + 1)
        if log ~= '' and call('APPEND', KEYS[2], log) ~= stride * (grants - folded) then
          -- Redis has lost the log. A settlement notices that by its length.
          call('PEXPIRE', KEYS[2], math.ceil((keys_expiry - now) / 1000) + 1)
        end
        return outcome .. version .. events .. events_part
      end
    end
  end
end
