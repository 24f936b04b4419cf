"""As much of a W&B server as its client needs to log runs: it keeps what it is sent, and can be lost."""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fault_proxy import FaultProxy

KEY = "0123456789abcdef0123456789abcdef01234567"


class FakeWandb:
    """A server on loopback, behind a proxy that can fail.

    Attributes
    ----------
    config, history, summary, exit_code : dict
        By the runs' ids. History is by step, and a step that was sent again is in `doubled`.
    """

    def __init__(self) -> None:
        self.config: dict[str, dict[str, Any]] = {}
        self.history: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        self.summary: dict[str, dict[str, Any]] = defaultdict(dict)
        self.exit_code: dict[str, int] = {}
        self.lines: dict[str, int] = defaultdict(int)
        self.doubled: list[tuple[str, int]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.fake = self
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.proxy = FaultProxy(self._server.server_address[1])

    def close(self) -> None:
        self.proxy.down()
        self._server.shutdown()
        self._server.server_close()

    def steps(self) -> dict[str, list[int]]:
        """Steps that there are, by run."""
        return {run: sorted(rows) for run, rows in self.history.items() if rows}

    def asked(self, query: str, values: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL request."""
        entity = {"id": "e", "name": "somebody"}
        project = {"id": "p", "name": "satdet", "entity": entity}
        if "upsertBucket" in query:
            name = values["name"]
            config = {key: each["value"] for key, each in json.loads(values.get("config") or "{}").items()}
            made = name not in self.config
            self.config.setdefault(name, {}).update(config)
            bucket = {"id": name, "name": name, "displayName": name, "description": "", "config": "{}"}
            return {"upsertBucket": {"bucket": {**bucket, "project": project, **self._lines(name)}, "inserted": made}}
        if "createRunFiles" in query:
            files = [{"name": each, "uploadUrl": f"{self.proxy.uri}/upload/{each}"} for each in values["files"]]
            return {"createRunFiles": {"runID": values["run"], "uploadHeaders": [], "files": files}}
        if "viewer" in query:
            return {"viewer": {"id": "u", "entity": "somebody", "username": "somebody", "flags": "{}"}}
        if "bucket(" in query or "model(" in query:
            return {"model": {**project, "bucket": self._resumed(values["name"])}}
        return {}

    def streamed(self, run: str, sent: dict[str, Any]) -> None:
        """Take what a run's file stream holds."""
        files = sent.get("files") or {}
        history = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for line in history["content"]:
            row = json.loads(line)
            self.lines[run] += 1
            if row["_step"] in self.history[run]:
                self.doubled.append((run, row["_step"]))
            self.history[run].setdefault(row["_step"], {}).update(row)
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            self.summary[run].update(json.loads(line))
        if sent.get("complete"):
            self.exit_code[run] = sent["exitcode"]

    def _lines(self, name: str) -> dict[str, int]:
        return {"historyLineCount": self.lines[name], "logLineCount": 0, "eventsLineCount": 0}

    def _resumed(self, name: str) -> dict[str, Any] | None:
        if name not in self.config:
            return None
        last = max(self.history[name], default=None)
        tail = json.dumps([json.dumps(self.history[name][last])] if last is not None else [])
        summary = json.dumps(self.summary[name] | ({"_step": last} if last is not None else {}))
        config = json.dumps({key: {"value": value} for key, value in self.config[name].items()})
        kept = {"historyTail": tail, "eventsTail": "[]", "summaryMetrics": summary, "config": config, "tags": []}
        return {"id": name, "name": name, "displayName": name, "wandbConfig": '{"t": 1}', **kept, **self._lines(name)}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        self._answer({})

    def do_PUT(self) -> None:
        self._content()
        self._answer({})

    def do_POST(self) -> None:
        content = self._content()
        fake: FakeWandb = self.server.fake
        if self.path == "/graphql":
            asked = json.loads(content)
            self._answer({"data": fake.asked(asked["query"], asked.get("variables") or {})})
            return
        if self.path.endswith("/file_stream"):
            fake.streamed(self.path.split("/")[-2], json.loads(content))
        self._answer({})

    def _content(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
