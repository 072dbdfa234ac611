import asyncio
import os

import uvicorn
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.responses import StreamingResponse
from starlette.routing import Route


async def redirect(request):
    return RedirectResponse("/echo/there?x=1")


async def cookies(request):
    response = JSONResponse({"received": request.headers.get("cookie")})
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "x y")
    return response


async def gzip(request):
    with open("text.gz", "rb") as file:
        fields = {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        return Response(file.read(), media_type="text/plain", headers=fields)


async def stream(request):
    async def parts():
        for part in range(5):
            yield f"part {part}\n"
            await asyncio.sleep(0.002)

    return StreamingResponse(parts(), media_type="text/plain")


async def fail(request):
    raise RuntimeError("a failure")


async def file(request):
    return FileResponse("large.bin")


async def json(request):
    body = await request.json()
    return JSONResponse({"query": list(request.query_params.multi_items()), "body": body}, 201)


async def form(request):
    form = await request.form()
    text = {}
    for name, value in form.multi_items():
        text[name] = value if isinstance(value, str) else [value.filename, value.size]
    return JSONResponse(text)


async def echo(request):
    scope = request.scope
    query = b"?" + scope["query_string"] if scope["query_string"] else b""
    first = scope["method"].encode() + b" " + scope["raw_path"] + query + b"\n"
    fields = b"".join(name + b": " + value + b"\n" for name, value in scope["headers"])
    return Response(first + fields + await request.body(), media_type="text/plain")


METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]
app = Starlette(routes=[
    Route("/redirect", redirect),
    Route("/cookies", cookies),
    Route("/gzip", gzip),
    Route("/stream", stream),
    Route("/fail", fail),
    Route("/file", file),
    Route("/json", json, methods=["POST"]),
    Route("/form", form, methods=["POST"]),
    Route("/echo", echo, methods=METHODS),
    Route("/echo/{rest:path}", echo, methods=METHODS),
])
uvicorn.run(app, port=int(os.environ["PORT"]), log_level="critical")
