-- A connection for every request, as health checks and simple clients do it.
wrk.method = "GET"
wrk.headers["Connection"] = "close"
