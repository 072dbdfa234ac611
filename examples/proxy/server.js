// A web server that knows nothing of hotrun: it listens on the port in PORT, and exits at SIGTERM
// at once, whatever it is doing. Behind the proxy no request fails all the same.
"use strict";

const http = require("node:http");

const GREETING = "Hello from behind the proxy";

const server = http.createServer((request, response) => {
  // A page that takes a while.
  setTimeout(() => response.end(`${GREETING}\n`), 50);
});

server.listen(process.env.PORT ?? 3000, "127.0.0.1");
