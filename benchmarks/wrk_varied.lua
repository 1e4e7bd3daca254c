-- The fields of wrk_browser.lua, but no two requests alike: path, Referer and Cookie change every time, so that nothing
-- which a server remembers of the request before helps it.
local fields = "\r\nHost: localhost"
  .. "\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
  .. "\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
  .. "\r\nAccept-Language: en-GB,en;q=0.7,de;q=0.3"
  .. "\r\nAccept-Encoding: gzip, deflate, br, zstd"
  .. "\r\nUpgrade-Insecure-Requests: 1"
  .. "\r\nSec-Fetch-Dest: document"
  .. "\r\nSec-Fetch-Mode: navigate"
  .. "\r\nSec-Fetch-Site: same-origin"
  .. "\r\nPriority: u=0, i"
local number = 0

request = function()
  number = number + 1
  return "GET /shop/items/" .. number .. "?page=2 HTTP/1.1" .. fields
    .. "\r\nReferer: http://localhost/shop/items?page=" .. number
    .. "\r\nCookie: session=0f8fad5bd9cb469fa1657086772895" .. number .. "; theme=dark; consent=1\r\n\r\n"
end
