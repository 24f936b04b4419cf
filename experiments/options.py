"""The flags of ``experiments.run``, checked, and the declaration that they lead to."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from experiments.credentials import TRACKING_URI, masked
from experiments.keeping import Keep, parse_keep
from experiments.objects import checked_uri, is_uri
from experiments.resources import Capacity, parse_nodes
from experiments.stoppers import Budget, parse_budget
from experiments.tile_cache import TileCache, parse_tile_cache
from satdet._storage import PATIENCE_SECONDS
from satdet.config import ConfigError, parse_value, unknown_name
from satdet.errors import UsageError
from search_spaces.declare import SCHEDULERS, SEARCHERS, Experiment

_TRIALS = 30
"""Of a grid that another searcher samples."""
_LAST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What was asked for on the command line. None: not said."""

    experiment: str
    smoke: bool | None = None
    data: str | None = None
    labels: str | None = None
    storage: str = "runs"
    tracking_uri: str | None = None
    wandb: Literal["online", "offline", "off"] | None = None
    values: dict[str, Any] | None = None
    seeds: int | None = None
    searcher: str | None = None
    scheduler: str | None = None
    trials: int | None = None
    budget: Budget | None = None
    concurrency: int | None = None
    workers_per_trial: int | None = None
    gpus_per_trial: float | None = None
    cpus_per_trial: int | None = None
    address: str | None = None
    nodes: Capacity | None = None
    tile_cache: TileCache | None = field(default_factory=TileCache)
    weights_dir: str | None = None
    checkpoint: str | None = None
    best_of: str | None = None
    keep: Keep | None = None
    continued: tuple[str, ...] = ()
    more_epochs: int | None = None
    require_trackers: bool = False
    termination_notice: str | None = None
    storage_patience: float = PATIENCE_SECONDS
    metrics_port: int = 0
    resume: bool = False
    fresh: bool = False
    plan: bool = False
    json: bool = False

    def recorded(self) -> dict[str, Any]:
        """The flags that a resume takes from the record where they are not said again, as plain data."""
        data = str(Path(self.data).expanduser().resolve()) if self.data else None
        labels = str(Path(self.labels).expanduser().resolve()) if self.labels else None
        budget = asdict(self.budget) if self.budget else None
        searched = {"smoke": self.smoke, "values": self.values, "seeds": self.seeds, "data": data, "labels": labels}
        strategy = {"searcher": self.searcher, "scheduler": self.scheduler}
        kept: dict[str, Any] = {"keep": asdict(self.keep) if self.keep else None, "concurrency": self.concurrency}
        kept |= {"cpus_per_trial": self.cpus_per_trial, "gpus_per_trial": self.gpus_per_trial}
        kept |= {"workers_per_trial": self.workers_per_trial}
        return searched | strategy | kept | {"trials": self.trials, "budget": budget, "checkpoint": self.checkpoint}

    def resumed(self, recorded: Mapping[str, Any]) -> "RunOptions":
        """These options, with what was not said taken from those `recorded` by the sessions before."""
        said = self.recorded()
        taken = {name: value for name, value in recorded.items() if said[name] is None}
        if self.workers_per_trial is not None:  # what a trial had in all was meant for another number of them
            taken = {name: value for name, value in taken.items() if name not in ("cpus_per_trial", "gpus_per_trial")}
        if self.best_of is not None:
            taken.pop("checkpoint", None)
        if taken.get("budget"):
            taken["budget"] = Budget(**taken["budget"])
        if taken.get("keep"):
            taken["keep"] = Keep(**taken["keep"])
        return replace(self, **taken)

    def applied_to(self, experiment: Experiment) -> Experiment:
        """The declaration as the flags change it: smoke, then values, seeds, searcher and scheduler."""
        if self.smoke:
            experiment = experiment.scaled_down()
        if self.values:
            experiment = experiment.with_base_values(self.values)
        if self.seeds is not None:
            experiment = replace(experiment, seeds=self.seeds)
        if self.scheduler is not None:
            experiment = replace(experiment, scheduler=_default(SCHEDULERS, self.scheduler, "scheduler"))
        if self.searcher is not None:
            experiment = self._with_searcher(experiment, _default(SEARCHERS, self.searcher, "searcher"))
        return experiment

    def _with_searcher(self, experiment: Experiment, searcher: Any) -> Experiment:
        """With another searcher; a sampling one needs a number of trials, a grid has its own."""
        sampled = searcher.sampled and not experiment.searcher.sampled
        trials = (self.trials or experiment.trials or _TRIALS) if sampled else experiment.trials
        return replace(experiment, searcher=searcher, trials=trials if searcher.sampled else None)


def _default(kinds: Mapping[str, type[Any]], name: str, what: str) -> Any:
    """The setting of that name (in any case) with its defaults."""
    known = {kind.lower(): kind for kind in kinds}
    if name.lower() not in known:
        raise ConfigError(f"--{what} {name!r}: {unknown_name(what, name, kinds)}")
    return kinds[known[name.lower()]]()


def build_parser() -> argparse.ArgumentParser:
    """The command line of ``experiments.run``."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run",
        description="Run a declared experiment: every trial trained under Ray, recorded, and logged to MLflow and W&B.",
        epilog="exit status: 0 finished; 2 usage or bad declaration; 3 finished, some trials failed; 4 bad data; "
        "130 interrupted, go on with --resume",
    )
    add = parser.add_argument
    add(
        "experiment",
        nargs="?",
        metavar="NAME|FILE.py|SWEEP.yaml",
        help="a declared experiment (--list), a file that declares one, or a W&B sweep file",
    )
    add("--list", action="store_true", help="the declared experiments with their questions")
    add("--plan", action="store_true", help="what would run and what it would cost; starts nothing")
    add("--smoke", action="store_true", default=None, help="the experiment scaled down")
    add("--data", metavar="DIR", help="frames and catalogues (default: a simulated survey, made on first use)")
    add("--labels", metavar="FILE", help="label file of the frames (default: labels.csv in DIR, if there)")
    add(
        "--storage",
        metavar="DIR|URI",
        default="runs",
        help="folder of searches, data and trackers, or an object store: s3://… or gs://… (default: runs)",
    )
    add("--set", metavar="KEY=VALUE", action="append", default=[], help="override a value of the base (repeatable)")
    add("--seeds", type=int, metavar="N", help="replicate every cell with N seeds")
    add("--searcher", metavar="NAME", help=f"another searcher, with its defaults: {', '.join(SEARCHERS)}")
    add("--scheduler", metavar="NAME", help=f"another scheduler, with its defaults: {', '.join(SCHEDULERS)}")
    add("--trials", type=int, metavar="N", help="at most N trials of a grid; as many of a sampled space")
    add("--budget", metavar="12h|40gpuh|500epochs", help="end the search cleanly when this is spent")
    add("--concurrency", type=int, metavar="N", help="at most N trials at a time")
    add("--workers-per-trial", type=int, metavar="N", help="processes that train one trial; the batch is divided")
    add("--gpus-per-trial", type=float, metavar="X", help="GPUs of a trial; several are as many workers, 0.5 is shared")
    add("--cpus-per-trial", type=int, metavar="N", help="CPUs, and so threads, of a trial")
    add("--address", metavar="ADDR", default=os.environ.get("RAY_ADDRESS"), help="a Ray cluster (default: a local one)")
    add("--nodes", metavar="4x16cpu1gpu", help="what a cluster that starts nodes on demand may come to")
    add(
        "--tile-cache",
        metavar="DIR[,SIZE]|off",
        help="where each node keeps copies of the tiles (default: in /var/tmp, 50GB, if the storage is a network's)",
    )
    add("--weights-dir", metavar="DIR", help="folder with pretrained weights, for sites without a network")
    measured = parser.add_mutually_exclusive_group()
    measured.add_argument("--checkpoint", metavar="FILE", help="the model that an evaluation measures")
    measured.add_argument("--best-of", metavar="SEARCH", help="measure the best model of a search in this storage")
    add("--tracking-uri", metavar="URI", default=os.environ.get(TRACKING_URI), help="MLflow (default: SQLite)")
    add("--wandb", choices=("online", "offline", "off"), help="default: online with a key, else offline")
    add("--require-trackers", action="store_true", help="start only if MLflow and W&B answer (default: send later)")
    add("--keep", metavar="K[,SIZE]", help="newest checkpoints of a trial, and a cap for the search, like 3,20GB")
    add(
        "--storage-patience",
        type=float,
        metavar="SECONDS",
        default=PATIENCE_SECONDS,
        help="how long to wait for a storage that is full or out of reach (default: %(default).0f)",
    )
    add(
        "--termination-notice",
        metavar="FILE",
        default=os.environ.get("SATDET_TERMINATION_NOTICE"),
        help="leave as on Ctrl-C when this file appears (spot machines)",
    )
    add("--metrics-port", type=int, metavar="N", default=0, help="serve metrics for Prometheus on 127.0.0.1:N (0: no)")
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--resume",
        action="store_true",
        help="go on with an interrupted search; with more --trials, with a finished one",
    )
    again.add_argument("--fresh", action="store_true", help="begin anew; an earlier search is moved into archive/")
    add(
        "--continue",
        dest="continued",
        action="append",
        default=[],
        metavar="TRIAL",
        help="resume, and go on with a trial that has ended (repeatable)",
    )
    add("--epochs", metavar="+N", help="epochs that a continued trial trains beyond those it has")
    add("--json", action="store_true", help="print the summary on standard output")
    add("--debug", action="store_true", help="show tracebacks")
    return parser


def options_of(parsed: argparse.Namespace) -> RunOptions:
    """The options, checked.

    Raises
    ------
    UsageError
        For a number that is not positive, a tracking URI that is a folder, or a ``--set`` that is not ``key=value``.
    ConfigError
        For a key or value that the configuration does not have.
    """
    if not parsed.experiment:
        raise UsageError("which experiment? --list shows the declared ones")
    for flag in ("seeds", "trials", "concurrency", "workers_per_trial", "cpus_per_trial"):
        value = getattr(parsed, flag)
        if value is not None and value < 1:
            raise UsageError(f"--{flag.replace('_', '-')} {value} is not positive")
    if parsed.gpus_per_trial is not None and parsed.gpus_per_trial < 0:
        raise UsageError(f"--gpus-per-trial {parsed.gpus_per_trial} is negative")
    if parsed.nodes is not None and parsed.address is None:
        raise UsageError(f"--nodes {parsed.nodes}: of which cluster? name it with --address")
    if is_uri(parsed.storage):
        checked_uri(parsed.storage)
        if parsed.tile_cache is not None and parse_tile_cache(parsed.tile_cache) is None:
            raise UsageError(f"--tile-cache off: from {parsed.storage} tiles can only be read by way of a copy")
    if parsed.storage_patience < 0:
        raise UsageError(f"--storage-patience {parsed.storage_patience:g} is negative")
    check_tracking_uri(parsed.tracking_uri)
    if not 0 <= parsed.metrics_port <= _LAST_PORT:
        raise UsageError(f"--metrics-port {parsed.metrics_port} is not between 0 and {_LAST_PORT}")
    if parsed.continued and parsed.fresh:
        raise UsageError("--continue goes on with a search, --fresh begins anew: say one of them")
    if parsed.epochs is not None and not parsed.continued:
        raise UsageError(f"--epochs {parsed.epochs}: of which trial? name it with --continue TRIAL")
    own: dict[str, Any] = {
        "values": parse_assignments(parsed.set),
        "budget": parse_budget(parsed.budget) if parsed.budget else None,
        "keep": parse_keep(parsed.keep) if parsed.keep is not None else None,
        "nodes": parse_nodes(parsed.nodes) if parsed.nodes is not None else None,
        "tile_cache": parse_tile_cache(parsed.tile_cache) if parsed.tile_cache is not None else TileCache(),
        "continued": tuple(parsed.continued),
        "more_epochs": _more_epochs(parsed.epochs) if parsed.epochs is not None else None,
        "resume": parsed.resume or bool(parsed.continued),
    }
    known = set(RunOptions.__dataclass_fields__)
    plain = {name: value for name, value in vars(parsed).items() if name in known and name not in own}
    return RunOptions(**plain, **own)


def _more_epochs(text: str) -> int:
    if not text.startswith("+") or not text[1:].isdigit() or int(text) < 1:
        raise UsageError(f"--epochs {text} is not like +20")
    return int(text)


def check_tracking_uri(uri: str | None) -> None:
    """Refuse MLflow's file store, which it has given up.

    Raises
    ------
    UsageError
        For a folder, also as ``file:`` URI.
    """
    if uri is not None and (uri.startswith("file:") or ("://" not in uri and not uri.startswith("databricks"))):
        raise UsageError(
            f"--tracking-uri {masked(uri)}: runs are not kept in a folder of MLflow's own; leave it out for a database"
            f" in the storage, or name a server or a database (also where {TRACKING_URI} says so)"
        )


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any] | None:
    """The values that ``key=value`` texts set, by path; None when there are none."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--set {assignment!r} is not key=value")
        value = parse_value(path.strip(), text.strip())
        values[path.strip()] = list(value) if isinstance(value, tuple) else value
    return values or None
