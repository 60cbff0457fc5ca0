-- The arguments of the step that every batch needs: the first words of the header. One argument takes less time than
-- many, in the client and in Redis.
--
-- Defines `owner`, `batch`, `ttl`, `concurrency` (-1: any), `flags`, `given_clock` (nil: TIME), `further_at`, the place
-- of the other words of the header, and `commands_at`, the place of the commands.
local owner, batch, ttl, concurrency, flags, given_clock, further_at =
  string.match(ARGV[1], '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) ()')
local commands_at = string.find(ARGV[1], '\n', further_at, true) + 1
batch, ttl, concurrency, given_clock = tonumber(batch), tonumber(ttl), tonumber(concurrency), tonumber(given_clock)
