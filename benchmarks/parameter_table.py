"""Write docs/tables/parameters.md: the sizes of the detectors, the report's beside ours, and what freezing trains.

python -m benchmarks.parameter_table [FILE]   (ten seconds; no weights are needed)
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from satdet.detector.table import REPORT_MILLIONS, Row, freezing_table, parameter_table

FILE = Path(__file__).resolve().parents[1] / "docs" / "tables" / "parameters.md"
SETTINGS = {"last_stages": "stages", "alternating": "period", "adapters": "width", "lora": "rank"}


def main(arguments: list[str]) -> int:
    """Write the file that is named, or the one in the documentation."""
    path = Path(arguments[0]) if arguments else FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines()) + "\n")
    sys.stderr.write(f"{path}\n")
    return 0


def lines() -> Iterator[str]:
    """The lines of the file."""
    yield "# Parameters of the detectors"
    yield ""
    yield "Made by `python -m benchmarks.parameter_table`. One input channel, two classes, ImageNet weights, the rest"
    yield "by default, so batch norm is frozen in v1 (its statistics are then no parameters) and trainable in v2. The"
    yield "body is the backbone without its feature pyramid."
    yield ""
    yield "| backbone | version | parameters [M] | of the report [M] | body [M] |"
    yield "|---|---|---:|---:|---:|"
    yield from (_size_line(row) for row in parameter_table())
    yield ""
    yield "## What each way of freezing trains: ResNet50"
    yield ""
    yield "In periods in which `alternating` does not freeze the body, it trains what `none` does."
    yield ""
    yield "| freezing | version | parameters [M] | trained [M] | share | of the body [M] |"
    yield "|---|---|---:|---:|---:|---:|"
    yield from (_freezing_line(row) for row in freezing_table())


def _size_line(row: Row) -> str:
    report = REPORT_MILLIONS.get((row.config.backbone, row.config.version))
    figures = [_millions(row.detector.total), f"{report:.2f}" if report else "–", _millions(row.body.total)]
    return _line([row.config.backbone, row.config.version, *figures])


def _freezing_line(row: Row) -> str:
    freezing = row.config.freezing
    name = SETTINGS.get(freezing.mode)
    setting = f", {name} {getattr(freezing, name)}" if name else ""
    share = row.detector.trained / row.detector.total
    figures = [_millions(row.detector.total), _millions(row.detector.trained), f"{share:.1%}"]
    return _line([freezing.mode + setting, row.config.version, *figures, _millions(row.body.trained)])


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
