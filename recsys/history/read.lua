-- ARGV: limit, cap, before_ms. Returns {version, length, flags, records}: the latest `limit` before then, oldest first.
local limit, cap, before = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local oldest = math.max(0, count - cap)
local beyond = lower_bound(stored_time, oldest, count, before)
local first = math.max(oldest, beyond - limit)
local records = ''
if first < beyond then records = stored(first, beyond) end
return {version, count - oldest, flags, records}
