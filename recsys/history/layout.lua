-- Opens a history for the scripts that follow. One string: a header of [format u8][version u56][count u24][flags u8],
-- `count` records of WIDTH bytes in time order, each opening with its time as u48, then zeros that later records take
-- the place of; all little-endian. scripts.py puts FORMAT, HEADER and WIDTH in front.
-- Times are compared as numbers: comparing strings depends on the server's locale.
local key = KEYS[1]
local size = redis.call('STRLEN', key)
local capacity, count, version, flags = 0, 0, 0, 0
if size > 0 then
  local format
  if size >= HEADER then
    format, version, count, flags = struct.unpack('<BI7I3B', redis.call('GETRANGE', key, 0, HEADER - 1))
    capacity = (size - HEADER) / WIDTH
  end
  if format ~= FORMAT or (size - HEADER) % WIDTH ~= 0 or count > capacity then
    return redis.error_reply('HISTORYFORMAT ' .. size .. ' bytes with format ' .. tostring(format))
  end
end

local function stored(first, beyond)
  return redis.call('GETRANGE', key, HEADER + first * WIDTH, HEADER + beyond * WIDTH - 1)
end

local function stored_time(index)
  local at = HEADER + index * WIDTH
  return (struct.unpack('<I6', redis.call('GETRANGE', key, at, at + 5)))
end

-- First index in [low, high) whose time is not before `time`; high where there is none.
local function lower_bound(time_at, low, high, time)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if time_at(middle) < time then low = middle + 1 else high = middle end
  end
  return low
end
