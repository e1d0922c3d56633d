-- Posts variants of one AdmissionReview; prints what wrk measured as one line of JSON.
-- The first argument after `--` is the body's file; the second, if there is one, is a file of further headers.
-- No connection sends the same head or the same body twice in a row: the variants differ in User-Agent, in uid and, by
-- blanks at the end of the body, in Content-Length.

-- A prime, so that no usual number of connections divides it.
local VARIANTS = 61

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["Accept"] = "application/json, */*"
  wrk.headers["Accept-Encoding"] = "gzip"
  local body = file:read("*a")
  file:close()
  if args[2] then
    for line in io.lines(args[2]) do
      local name, value = line:match("^([^:]+): (.+)$")
      wrk.headers[name] = value
    end
  end
  local all, turn = {}, 0
  for i = 1, VARIANTS do
    wrk.headers["User-Agent"] = string.format("kube-apiserver-admission/%08d", i)
    wrk.body = body:gsub('("uid": ?"%x+%-%x+%-%x+%-%x+%-)%x+', string.format("%%1%012x", i), 1) .. string.rep(" ", i)
    all[i] = wrk.format()
  end
  request = function()
    turn = turn % VARIANTS + 1
    return all[turn]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'BENCH {"duration_us": %d, "requests": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, "max_us": %d, ' ..
    '"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}\n',
    summary.duration, summary.requests, summary.bytes,
    latency:percentile(50), latency:percentile(99), latency.max,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
