"""Reads what W&B left on disk: a LevelDB log of protobuf records (W&B ships no reader of its own)."""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32768
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_run(folder: Path) -> dict[str, Any]:
    """Configuration, history by step, summary and exit code of one offline run."""
    (file,) = folder.glob("run-*.wandb")
    run: dict[str, Any] = {"config": {}, "history": [], "summary": {}, "exit_code": None}
    for payload in _payloads(file.read_bytes()):
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


def _payloads(content: bytes):
    assert content[:4] == b":W&B"
    position, parts = 7, b""
    while position + 7 <= len(content):
        left = _BLOCK - position % _BLOCK
        if left < 7:
            position += left
            continue
        checksum, length, kind = struct.unpack("<IHB", content[position : position + 7])
        if kind == 0:
            position += left
            continue
        data = content[position + 7 : position + 7 + length]
        assert len(data) == length
        assert checksum == zlib.crc32(bytes([kind]) + data)
        parts = data if kind in (_FULL, _FIRST) else parts + data
        if kind in (_FULL, _LAST):
            yield parts
        position += 7 + length
