-- Sixteen requests at a time, the next before the answer to the first.
init = function()
  local one = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
  requests = string.rep(one, 16)
end

request = function()
  return requests
end
