-- A request with nothing but what HTTP/1.1 demands; wrk adds Host.
wrk.method = "GET"
