"""Stand-in for the service, speaking its side of the process protocol; the key "Fake" of the section controls it.

`fake_python` makes an executable of it, to be named as Service.Python: the arguments for the real one are ignored.
Everything that happens is a line of the file "Fake": {"Events": PATH}.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


def fake_python(directory: Path) -> Path:
    """An executable file that runs this module and takes any arguments."""
    file = directory / "fake-python"
    file.write_text(f"#!{sys.executable}\n{Path(__file__).read_text()}")
    file.chmod(0o700)
    return file


def main() -> None:
    """Read secret and settings, answer hints until end-of-file on stdin."""
    secret, document = sys.stdin.readline().strip(), json.loads(sys.stdin.readline())
    fake = document["Enrichment"]["Fake"]

    def note(event: str, **more: object) -> None:
        with Path(fake["Events"]).open("a") as events:
            events.write(json.dumps({"event": event, "pid": os.getpid(), **more}) + "\n")

    note("start", arguments=sys.argv[1:], document=document)
    if "Exit" in fake:
        if "Error" in fake:
            print(json.dumps({"error": fake["Error"]}), flush=True)
        os._exit(fake["Exit"])

    class Hints(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            right = self.headers["X-Enrichment-Secret"] == secret
            note("hint", path=self.path, right_secret=right, body=body)
            answer = json.dumps({"accepted": right, "changes_read": fake.get("Read")}).encode()
            self.send_response(202 if right else 403)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hints) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(json.dumps({"port": server.server_port}), flush=True)
        sys.stdin.read()
        if fake.get("Stubborn"):
            threading.Event().wait()
        server.shutdown()
    note("end")


if __name__ == "__main__":
    main()
