-- KEYS: history, request ids, deletion, a key to copy through. ARGV: records (distinct, ascending by time), cap, slack,
-- joined (1: with these, the history holds what the event store has), request (16 bytes: which, then what it asks;
-- empty for none), how many requests to remember, for how many seconds.
-- Returns {state, version, length, accepted, duplicates, gone, older, indexes...}. State 1: the request was applied
-- before, 2: its id was used for other events; neither changes anything. The first `gone` records of the batch are no
-- later than the user's deletion; the next `older`, and those at `indexes`, came too late to be among the newest `cap`.
--
-- In order, the cost is that of the batch. A late record costs a binary search and the move of what lies behind it.
local batch, cap, slack = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local joined, request = tonumber(ARGV[4]), ARGV[5]
local requests_kept, request_seconds = tonumber(ARGV[6]), tonumber(ARGV[7])
local batch_count = #batch / WIDTH
local oldest = math.max(0, count - cap) -- what lies before it waits for the next trim and is out of sight for good

if request ~= '' then
  local known, which, at = redis.call('GET', KEYS[2]) or '', string.sub(request, 1, 8), 1
  while at do
    at = string.find(known, which, at, true)
    if at and (at - 1) % #request == 0 then
      local same = string.sub(known, at, at + #request - 1) == request
      return {same and 1 or 2, version, math.min(count, cap)}
    end
    at = at and at + 1
  end
end

local function batch_time(index)
  return (struct.unpack('<I6', batch, index * WIDTH + 1))
end

-- Of a deleted user, what is not later than the deletion stays away, whoever brings it; versions are never given twice.
local gone, deletion = 0, redis.call('HMGET', KEYS[3], 'time_ms', 'version')
if deletion[1] then
  gone = lower_bound(batch_time, 0, batch_count, tonumber(deletion[1]) + 1)
  if size == 0 then version = tonumber(deletion[2]) end
end

local function header(kept)
  return struct.pack('<BI7I3B', FORMAT, version, kept, math.max(flags, joined))
end

local function answer(accepted, duplicates, older, expired)
  if accepted == 0 and count > 0 and joined > flags then redis.call('SETRANGE', key, 0, header(count)) end
  if request ~= '' and batch_count > 0 then
    local bytes = redis.call('APPEND', KEYS[2], request)
    if bytes >= 2 * requests_kept * #request then
      redis.call('SET', KEYS[2], redis.call('GETRANGE', KEYS[2], -requests_kept * #request, -1))
    end
    redis.call('EXPIRE', KEYS[2], request_seconds)
  end
  local reply = {0, version, math.min(count + accepted, cap), accepted, duplicates, gone, older}
  for _, index in ipairs(expired) do reply[#reply + 1] = index end
  return reply
end

-- A full history forgets at its old end, so what is not later than its oldest event may have been there before: to
-- take it again would apply a retry twice.
local floor, start = -1, gone
if count >= cap then
  floor = stored_time(oldest)
  start = lower_bound(batch_time, gone, batch_count, floor)
end
local older = start - gone
if start == batch_count then return answer(0, 0, older, {}) end

local from = count
if count > 0 and stored_time(count - 1) >= batch_time(start) then
  from = lower_bound(stored_time, oldest, count, batch_time(start))
end

local accepted, duplicates, expired = 0, 0, {}
local fresh = string.sub(batch, start * WIDTH + 1)
local merged = fresh
if from == count then
  accepted = batch_count - start
else
  local tail = stored(from, count)
  if string.sub(tail, 1, #fresh) == fresh then return answer(0, batch_count - start, older, {}) end
  local tail_count = count - from
  local function tail_time(index)
    return (struct.unpack('<I6', tail, index * WIDTH + 1))
  end
  -- A log knows no event ids: what came in with one and lies in the event store without is one event.
  local same = joined == 1 and WIDTH - DIGEST or WIDTH
  local pieces, taken, index = {}, 0, start
  while index < batch_count do
    if taken == tail_count then -- all that is left is later than everything stored
      pieces[#pieces + 1] = string.sub(batch, index * WIDTH + 1)
      accepted = accepted + batch_count - index
      break
    end
    -- One round takes what arrives before the next stored record, then all records of one time: those stored first,
    -- then the new ones among those that arrive.
    local run = lower_bound(batch_time, index, batch_count, tail_time(taken))
    if run > index then
      pieces[#pieces + 1] = string.sub(batch, index * WIDTH + 1, run * WIDTH)
      accepted = accepted + run - index
      index = run
      if index == batch_count then break end
    end
    local time, seen = batch_time(index), {}
    local stop = lower_bound(tail_time, taken, tail_count, time)
    while stop < tail_count and tail_time(stop) == time do
      local record = string.sub(tail, stop * WIDTH + 1, stop * WIDTH + same)
      seen[record] = (seen[record] or 0) + 1
      stop = stop + 1
    end
    pieces[#pieces + 1] = string.sub(tail, taken * WIDTH + 1, stop * WIDTH)
    taken = stop
    while index < batch_count and batch_time(index) == time do
      local record = string.sub(batch, index * WIDTH + 1, (index + 1) * WIDTH)
      local left = seen[string.sub(record, 1, same)] or 0
      if left > 0 then
        seen[string.sub(record, 1, same)] = left - 1
        duplicates = duplicates + 1
      elseif time == floor then
        expired[#expired + 1] = index
      else
        pieces[#pieces + 1] = record
        accepted = accepted + 1
      end
      index = index + 1
    end
  end
  pieces[#pieces + 1] = string.sub(tail, taken * WIDTH + 1)
  merged = table.concat(pieces)
end
if accepted == 0 then return answer(0, duplicates, older, expired) end

-- A string that grows is given twice its size by Redis, and keeps it. So room for the next records is made a little at
-- a time, as zeros, and the string is copied once after that: a copy has its exact size, and the append-only file gets
-- the command and not the bytes.
version = version + 1
local total = count + accepted
local function spare(records)
  return string.rep('\0', WIDTH * math.min(SPARE, math.floor(records / 16)))
end
if total <= capacity and total <= cap + slack then
  redis.call('SETRANGE', key, HEADER + from * WIDTH, merged)
  redis.call('SETRANGE', key, 0, header(total))
elseif total <= SPARE or total > cap + slack or from == 0 then
  local kept = merged
  if from > oldest then kept = stored(oldest, from) .. merged end
  kept = string.sub(kept, -cap * WIDTH)
  redis.call('SET', key, header(#kept / WIDTH) .. kept .. spare(#kept / WIDTH), 'KEEPTTL')
else
  redis.call('SETRANGE', key, HEADER + from * WIDTH, merged .. spare(total))
  redis.call('SETRANGE', key, 0, header(total))
  redis.call('COPY', key, KEYS[4], 'REPLACE')
  redis.call('RENAME', KEYS[4], key)
end
return answer(accepted, duplicates, older, expired)
