"""What becomes of a search whose record is damaged?

    python -m benchmarks.record_damage [--flips 400] [--seed 1]

The record of a real search, as it is when the search has finished and as it is when it was killed half way, is
truncated, zeroed by the page, has bits flipped, loses lines, has some twice, and so on. Each time it is opened as
``--resume`` opens it: that must give the newest state that is whole, or an error that says what to do; never another
exception, and never an empty state while the trials are there. What is refused is then repaired as the error says.
Writes ``benchmarks/results/record_damage.json``; exit status 1 if anything else happened.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.chaos_support import Session, SmallSearch, chances, scratch
from experiments.opening import check_in_the_way, earlier_state
from experiments.options import RunOptions
from experiments.paths import SearchPaths
from experiments.record import Event, Record, read_record
from experiments.repair import repair
from experiments.state import SearchState
from satdet.errors import SatdetError

RESULTS = Path("benchmarks/results/record_damage.json")
_PAGE = 4096
_OPTIONS = RunOptions(experiment="asha", resume=True)


@dataclass(frozen=True)
class Damage:
    """A record with a fault: which kind, and what the file has."""

    kind: str
    content: bytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all of it and write what became of it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.record_damage", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--flips", type=int, default=400, help="of a bit, in each of the two records")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--storage", type=Path, help="folder for the search, emptied (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.storage) as folder:
        finished = record_of_a_search(Path(folder))
        search = SearchPaths(Path(folder) / "damaged" / "asha")
        search.trial("t0000").mkdir(parents=True)
        records = {"finished": finished, "killed": _half(finished)}
        outcomes: dict[str, Counter[str]] = {}
        wrong: list[str] = []
        for name, content in records.items():
            for damage in damages(content, options.flips, options.seed):
                outcome = open_damaged(search, damage.content, content)
                outcomes.setdefault(damage.kind, Counter())[outcome] += 1
                if outcome not in ("newest whole state", "refused, repaired", "refused"):
                    wrong.append(f"{name}, {damage.kind}: {outcome}")
    result = {
        "command": "python -m benchmarks.record_damage",
        "records": {name: {"bytes": len(each), "events": each.count(b"\n")} for name, each in records.items()},
        "damages": sum(sum(each.values()) for each in outcomes.values()),
        "outcomes": {kind: dict(sorted(each.items())) for kind, each in outcomes.items()},
        "wrong": wrong,
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if wrong else 0


def record_of_a_search(folder: Path) -> bytes:
    """Run a search to its end; its record."""
    site = SmallSearch("asha").site(folder)
    with scratch() as environment:
        session = Session(site, ("--smoke", "--wandb", "off"), environment)
        if session.to_the_end() != 0:
            raise SystemExit(session.said()[-1000:])
    content: bytes = (site.search / "record.jsonl").read_bytes()
    return content


def damages(content: bytes, flips: int, seed: int) -> Iterator[Damage]:
    """Every fault that is tried on a record."""
    chance = chances(seed, len(content))
    lines = content.splitlines(keepends=True)
    yield Damage("none", content)
    yield Damage("emptied", b"")
    yield Damage("header lost", b"".join(lines[1:]))
    yield Damage("a line of something else behind it", content + b"something else\n")
    yield Damage("garbage behind it", content + chance.randbytes(_PAGE))
    for end in range(_PAGE, len(content), _PAGE):
        yield Damage("truncated at a page", content[:end])
    end = 0
    for number, line in enumerate(lines):
        yield Damage("truncated inside a line", content[: end + len(line) // 2])
        end += len(line)
        yield Damage("truncated behind a line", content[:end])
        yield Damage("truncated before a line's end", content[: end - 1])
        yield Damage("a line twice", b"".join((*lines[: number + 1], *lines[number:])))
        if 0 < number < len(lines) - 1:
            yield Damage("a line lost", b"".join((*lines[:number], *lines[number + 1 :])))
            yield Damage(
                "two lines swapped", b"".join((*lines[: number - 1], line, lines[number - 1], *lines[number + 1 :]))
            )
    for start in range(0, len(content), _PAGE):
        page = content[start : start + _PAGE]
        yield Damage("a page of zeros", content[:start] + bytes(len(page)) + content[start + len(page) :])
        yield Damage("zeros to the end", content[:start] + bytes(len(content) - start))
    for _ in range(flips):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        yield Damage("a bit flipped", bytes(damaged))


def open_damaged(search: SearchPaths, content: bytes, undamaged: bytes) -> str:
    """Open a record as a resume does; what became of it, in words."""
    search.record.write_bytes(content)
    intact = _intact(content, undamaged)
    try:
        outcome = _opened(search, intact)
    except SatdetError as error:
        if "\n" in str(error) or str(search.root) not in str(error):
            return f"unclear error: {error}"
        outcome = _repaired(search, intact)
    except Exception as error:
        outcome = f"{type(error).__name__}: {error}"
    for aside in search.root.glob("record.jsonl.damaged-*"):
        aside.unlink()
    return outcome


def _opened(search: SearchPaths, intact: list[Event]) -> str:
    state = earlier_state(search)
    check_in_the_way(search, state, _OPTIONS)
    with Record(search.record) as record:
        found = list(record.events)
        record.append("session", host="", process=0, options={}, dropped=record.dropped)
    if found != intact:
        return f"{len(found)} events, where {len(intact)} are whole"
    if not state.header or state != SearchState.of(intact):
        return "another state than that of the whole events"
    if [event["n"] for event in read_record(search.record)] != list(range(1, len(intact) + 2)):
        return "cannot be gone on with"
    return "newest whole state"


def _repaired(search: SearchPaths, intact: list[Event]) -> str:
    """What the repair of a refused record gives; one whose beginning is lost has to be refused there too."""
    try:
        repair(search)
        opened = _opened(search, intact)
    except SatdetError as error:
        return "refused" if not intact else f"refused, and not repaired: {error}"
    except Exception as error:
        return f"repair: {type(error).__name__}: {error}"
    return "refused, repaired" if opened == "newest whole state" else f"repaired: {opened}"


def _intact(content: bytes, undamaged: bytes) -> list[Event]:
    """The events before the first difference, found without the code that is tested."""
    events = []
    for line, original in zip(content.split(b"\n")[:-1], undamaged.split(b"\n"), strict=False):
        if line != original or not line:
            break
        events.append(json.loads(line[9:]))
    return events


def _half(content: bytes) -> bytes:
    """The record as a kill half way leaves it, with a torn line."""
    lines = content.splitlines(keepends=True)
    half = len(lines) // 2
    return b"".join(lines[:half]) + lines[half][: len(lines[half]) // 2]


if __name__ == "__main__":
    sys.exit(main())
