-- ARGV: records (distinct, ascending by time), cap, slack.
-- Returns {version, length, accepted, duplicates, older, indexes...}: the first `older` records of the batch, and those
-- at `indexes`, came too late to be among the newest `cap`.
--
-- In order, the cost is that of the batch. A late record costs a binary search and the move of what lies behind it.
local batch, cap, slack = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local batch_count = #batch / WIDTH
local oldest = math.max(0, count - cap) -- what lies before it waits for the next trim and is out of sight for good

local function batch_time(index)
  return (struct.unpack('<I6', batch, index * WIDTH + 1))
end

local function answer(accepted, duplicates, older, expired)
  local reply = {version, math.min(count + accepted, cap), accepted, duplicates, older}
  for _, index in ipairs(expired) do reply[#reply + 1] = index end
  return reply
end

-- A full history forgets at its old end, so what is not later than its oldest event may have been there before: to
-- take it again would apply a retry twice.
local floor, older = -1, 0
if count >= cap then
  floor = stored_time(oldest)
  older = lower_bound(batch_time, 0, batch_count, floor)
end
if older == batch_count then return answer(0, 0, older, {}) end

local from = count
if count > 0 and stored_time(count - 1) >= batch_time(older) then
  from = lower_bound(stored_time, oldest, count, batch_time(older))
end

local accepted, duplicates, expired = 0, 0, {}
local fresh = string.sub(batch, older * WIDTH + 1)
local merged = fresh
if from == count then
  accepted = batch_count - older
else
  local tail = stored(from, count)
  if string.sub(tail, 1, #fresh) == fresh then return answer(0, batch_count - older, older, {}) end
  local tail_count = count - from
  local function tail_time(index)
    return (struct.unpack('<I6', tail, index * WIDTH + 1))
  end
  local pieces, taken, index = {}, 0, older
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
      seen[string.sub(tail, stop * WIDTH + 1, (stop + 1) * WIDTH)] = true
      stop = stop + 1
    end
    pieces[#pieces + 1] = string.sub(tail, taken * WIDTH + 1, stop * WIDTH)
    taken = stop
    while index < batch_count and batch_time(index) == time do
      local record = string.sub(batch, index * WIDTH + 1, (index + 1) * WIDTH)
      if seen[record] then
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

version = version + 1
local header = struct.pack('<BI7', FORMAT, version)
-- Growing a string, Redis allocates twice what it needs. One that grows by a sixteenth is therefore written anew, to
-- its exact size, and so is one that must be cut.
if accepted * 16 > count or count + accepted > cap + slack then
  local kept = merged
  if from > oldest then kept = stored(oldest, from) .. merged end
  redis.call('SET', key, header .. string.sub(kept, -cap * WIDTH), 'KEEPTTL')
else
  redis.call('SETRANGE', key, HEADER + from * WIDTH, merged)
  redis.call('SETRANGE', key, 0, header)
end
return answer(accepted, duplicates, older, expired)
