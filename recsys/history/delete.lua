-- KEYS: history, request ids, deletion. ARGV: now_ms. Returns {behaviours, time_ms, erased_ms}:
-- what is no later than `time_ms` is deleted, what is no later than `erased_ms` is out of the append-only file, too.
-- Deletes whatever the key holds: a history that cannot be read must not keep its user from leaving.
local behaviours, version, newest = 0, 0, 0
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) >= HEADER then
  local format, stored_version, count = struct.unpack('<BI7I3B', redis.call('GETRANGE', KEYS[1], 0, HEADER - 1))
  if format == FORMAT then
    behaviours, version = count, stored_version
    local at = HEADER + (count - 1) * WIDTH
    if count > 0 then newest = struct.unpack('<I6', redis.call('GETRANGE', KEYS[1], at, at + 5)) end
  end
end
local before = redis.call('HMGET', KEYS[3], 'time_ms', 'version', 'erased_ms')
-- What had been dated ahead of the clock is deleted with the rest, and its retry is refused like theirs.
local before_ms, erased_ms = tonumber(before[1] or -1), tonumber(before[3] or -1)
local time_ms = math.max(tonumber(ARGV[1]), newest, before_ms)
local existed = redis.call('DEL', KEYS[1], KEYS[2]) > 0
if not existed and erased_ms == before_ms and before_ms >= 0 then erased_ms = time_ms end
version = math.max(version, tonumber(before[2] or 0))
redis.call('HSET', KEYS[3], 'time_ms', time_ms, 'version', version, 'erased_ms', erased_ms)
return {behaviours, time_ms, erased_ms}
