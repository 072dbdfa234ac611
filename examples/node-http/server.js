// A web server that is replaced without one refused connection. What it does for that is
// numbered; without hotrun it is a server like any other. An Express application is served
// in the same way: http.createServer(app).
"use strict";

const http = require("node:http");

const GREETING = "Hello from node";

const server = http.createServer((request, response) => {
  // 4. Who would ask again on this connection is to open a new one, for the next program.
  response.shouldKeepAlive &&= server.listening;
  response.end(GREETING);
});

// 1. The socket that hotrun holds is descriptor 3.
const place = process.env.LISTEN_FDS ? { fd: 3 } : { host: "127.0.0.1", port: 3000 };

// 2. node cannot send READY=1 by itself; so hotrun waits for this line (see hotrun.toml).
server.listen(place, () => console.log("serving"));

// 3. When asked to end, take no more connections and finish what was begun.
process.on("SIGTERM", () => {
  server.close();
  // 5. Connections on which nothing was asked would keep the program alive.
  server.closeIdleConnections();
});
