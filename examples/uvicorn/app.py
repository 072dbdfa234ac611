"""A web application that is replaced without one refused connection.

What it does for that is numbered; without hotrun it is a server like any other. Any ASGI
application, as of FastAPI or Starlette, can stand in place of this one.
(`uvicorn app:app --fd 3` does nearly the same; what it lacks is 5.)
"""

import asyncio
import os
import socket

import uvicorn

GREETING = "Hello from uvicorn"


async def app(scope, receive, send):
    body = GREETING.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        # 2. "I serve": now the old program is asked to end.
        notify("READY=1")

    # 3. uvicorn listens for SIGTERM by itself, and comes here.
    async def shutdown(self, sockets=None):
        # 4. Take no more connections,
        for server in self.servers:
            server.close()
        # 5. and then finish what was begun: whoever was let in just now is about to ask.
        await asyncio.sleep(0.1)
        await super().shutdown(sockets)


def notify(message):
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(message.encode(), path)


if __name__ == "__main__":
    # 1. The socket that hotrun holds is descriptor 3.
    place = {"fd": 3} if os.environ.get("LISTEN_FDS") else {"port": 3000}
    Server(uvicorn.Config(app, lifespan="off", access_log=False, **place)).run()
