"""Watches a picture develop: each preview becomes a file, and the picture is the last.

    python3 develop.py PROMPT [FOLDER]

The server's address is the environment's DAGUERRE, http://127.0.0.1:8080 unless set.
"""
import base64
import http.client
import json
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit


def events(address, request):
    """The events of one run, as they come. Raises where the server refuses, and where the stream breaks off."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request("POST", "/stream", json.dumps(request), {"content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {response.read().decode()}")
    for line in response:
        if line.startswith(b"data: "):
            event = json.loads(line[len(b"data: "):])
            if event["type"] == "error":
                raise SystemExit(f"the run failed: {event['detail']}")
            yield event


def main(prompt, folder="."):
    Path(folder).mkdir(parents=True, exist_ok=True)
    address = os.environ.get("DAGUERRE", "http://127.0.0.1:8080")
    for event in events(address, {"prompt": prompt, "preview_every": 1}):
        if event["type"] not in ("preview", "result"):
            continue
        name = f"step-{event['step']}" if event["type"] == "preview" else "result"
        path = Path(folder, f"{name}.jpg")
        path.write_bytes(base64.b64decode(event["image"]["url"].split(",", 1)[1]))
        print(path, flush=True)


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
