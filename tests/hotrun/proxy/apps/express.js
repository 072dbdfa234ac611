"use strict";

const express = require("express");
const fs = require("node:fs");

const app = express();

app.get("/redirect", (request, response) => response.redirect("/echo/there?x=1"));
app.get("/cookies", (request, response) => {
  response.cookie("a", "1", { httpOnly: true }).cookie("b", "x y");
  response.json({ received: request.headers.cookie });
});
app.get("/gzip", (request, response) => {
  response.set({ "Content-Encoding": "gzip", "Vary": "Accept-Encoding" }).type("text");
  response.send(fs.readFileSync("text.gz"));
});
app.get("/stream", async (request, response) => {
  for (let part = 0; part < 5; part++) {
    response.write(`part ${part}\n`);
    await new Promise((done) => setTimeout(done, 2));
  }
  response.end();
});
app.get("/fail", () => {
  throw new Error("a failure");
});
app.get("/file", (request, response) => response.sendFile(`${__dirname}/large.bin`));
app.post("/json", express.json(), (request, response) => {
  response.status(201).json({ query: request.query, body: request.body });
});
app.post("/form", express.urlencoded({ extended: false }), (request, response) => {
  response.json(request.body);
});
app.use("/echo", (request, response) => {
  const parts = [];
  request.on("data", (part) => parts.push(part));
  request.on("end", () => {
    let text = `${request.method} ${request.originalUrl} HTTP/${request.httpVersion}\n`;
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      text += `${request.rawHeaders[at]}: ${request.rawHeaders[at + 1]}\n`;
    }
    for (let at = 0; at < request.rawTrailers.length; at += 2) {
      text += `trailer ${request.rawTrailers[at]}: ${request.rawTrailers[at + 1]}\n`;
    }
    response.type("text").send(Buffer.concat([Buffer.from(text), ...parts]));
  });
});
app.listen(process.env.PORT, "127.0.0.1");
