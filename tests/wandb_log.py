"""Reads what W&B left on disk (W&B ships no reader of its own)."""

import json
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

from experiments.trackers.wandb_files import payloads


def read_run(folder: Path) -> dict[str, Any]:
    """Configuration, history by step, summary and exit code of one offline run."""
    (file,) = folder.glob("run-*.wandb")
    run: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit_code": None}
    for payload in payloads(file.read_bytes()):
        record = Record.FromString(payload)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run["id"], run["group"], run["name"] = record.run.run_id, record.run.run_group, record.run.display_name
            run["config"] |= _items(record.run.config.update)
        elif kind == "history":
            run["history"].append(_items(record.history.item))
        elif kind == "summary":
            run["summary"] |= _items(record.summary.update)
        elif kind == "exit":
            run["exit_code"] = record.exit.exit_code
    return run


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}
