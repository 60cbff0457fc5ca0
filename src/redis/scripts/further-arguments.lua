-- The arguments that the fast path does not need: the last words of the header.
--
-- Needs the arguments. Defines:
-- The server instant that the timer of the process has confirmed (0: none), how many may wait (-1: any), and the rates.
local confirmed, max_queue, given_rates = string.match(ARGV[1], '^(%S+) (%S+) ([^\n]*)', further_at)
confirmed, max_queue = tonumber(confirmed), tonumber(max_queue)
