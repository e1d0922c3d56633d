-- Posts one AdmissionReview over and over; prints what wrk measured as one line of JSON.
-- The first argument after `--` is the body's file; the second, if there is one, is a file of further headers.
-- As "fresh" it stands for a head that no connection sends twice in a row.

-- No divisor of it is a number of connections that anybody would choose.
local HEADS = 61

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  wrk.headers["User-Agent"] = "kube-apiserver-admission"
  wrk.headers["Accept"] = "application/json, */*"
  wrk.headers["Accept-Encoding"] = "gzip"
  wrk.body = file:read("*a")
  file:close()
  if args[2] == "fresh" then
    local all, turn = {}, 0
    for i = 1, HEADS do
      wrk.headers["X-Request-Id"] = string.format("%08d", i)
      all[i] = wrk.format()
    end
    request = function()
      turn = turn % HEADS + 1
      return all[turn]
    end
  elseif args[2] then
    for line in io.lines(args[2]) do
      local name, value = line:match("^([^:]+): (.+)$")
      wrk.headers[name] = value
    end
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
