"""The names of sweep files as ours: parameters as paths of the configuration, metrics as those that trials report."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from satdet.config import ConfigError, leaf_paths
from search_spaces.sweep_files.checks import shown, suggestion

PARAMETERS: Mapping[str, str] = {
    "lr": "optimizer.learning_rate",
    "optimizer": "optimizer.name",
    "optimizer_name": "optimizer.name",
    "wd": "optimizer.weight_decay",
    "lr_scheduler": "optimizer.schedule",
    "scheduler": "optimizer.schedule",
    "gradient_clip_val": "optimizer.max_gradient_norm",
    "batch_size": "training.batch_size",
    "train_batch_size": "training.batch_size",
    "eval_batch_size": "evaluation.batch_size",
    "val_batch_size": "evaluation.batch_size",
    "max_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "early_stopping_patience": "training.patience",
    "early_stopping_min_delta": "training.min_improvement",
    "min_delta": "training.min_improvement",
    "num_workers": "training.loader_workers",
    "model": "detector.backbone",
    "model_name": "detector.backbone",
    "nms": "detector.nms_threshold",
    "box_nms_thresh": "detector.nms_threshold",
    "box_score_thresh": "detector.score_threshold",
    "box_detections_per_img": "detector.max_detections",
    "tile_size": "tiles.size",
}
"""Names that are neither a path nor the last part of one, and those of which several paths have the last part."""

GROUPS: Mapping[str, str] = {
    "model": "detector",
    "optim": "optimizer",
    "train": "training",
    "eval": "evaluation",
    "augmentations": "augmentation",
}
"""Names of groups that are no section of the configuration."""

SEEDS = ("seed", "random_seed")
"""Names of what a search decides itself."""

LOSSES = ("loss", "loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg")
_PREFIXES = ("train", "training", "eval", "evaluation", "val", "valid", "validation", "test")
_LARGER_IS_BETTER = (
    "map", "mar", "best_iou", "best_map", "best_score", "precision", "recall", "f1", "magnitude", "images_per_second",
)  # fmt: skip
_SMALLER_IS_BETTER = ("loss", "false", "seconds")


@dataclass(frozen=True)
class Found:
    """A name that is ours, and what a user must be told about it."""

    name: str
    warning: str | None = None


def find_parameter(name: str, group: str | None, place: str) -> Found:
    """The path of a parameter.

    A full path, a known name of `PARAMETERS`, or the end of exactly one path; all of these first within `group`.
    Hyphens stand for underscores.

    Parameters
    ----------
    name : str
        As the file has it.
    group : str or None
        The section of the configuration that the parameter is nested in.
    place : str
        Where the file has it, for messages.

    Raises
    ------
    ConfigError
        For any other name, with the nearest known one.
    """
    plain = name.replace("-", "_")
    if group is not None and (path := _within(plain, group)) is not None:
        return Found(path)
    path = _anywhere(plain)
    if path is None:
        raise ConfigError(f"{place}: {_unknown(plain, group)}")
    if group is not None and not path.startswith(f"{group}."):
        return Found(path, f"{place} is {path}, which is not of the group {group}")
    return Found(path)


def find_group(name: str, group: str | None, place: str) -> str:
    """The section of the configuration that a nested group stands for.

    Raises
    ------
    ConfigError
        For an unknown group, with the nearest known one.
    """
    plain, sections = name.replace("-", "_"), _sections()
    inside = [section for section in sections if group is not None and section == f"{group}.{plain}"]
    ends = [section for section in sections if section == plain or section.endswith(f".{plain}")]
    for found in (inside, ends, [GROUPS[plain]] if plain in GROUPS else []):
        if len(found) == 1:
            return found[0]
    known = sorted({*sections, *GROUPS})
    raise ConfigError(f"{place}: unknown group{suggestion(name, known)}; known: {', '.join(known)}")


def find_metric(name: str, legal: Iterable[str], place: str) -> Found:
    """The metric that trials report under another name, such as ``val/map_50``.

    Raises
    ------
    ConfigError
        For a metric that no trial reports; the reported ones are listed.
    """
    legal = list(legal)
    if name in legal:
        return Found(name)
    for prefix in _PREFIXES:
        for separator in "/_.":
            stripped = name.removeprefix(f"{prefix}{separator}")
            if stripped in legal:
                tiles = "training" if stripped in LOSSES else "evaluation"
                return Found(stripped, f"{place} {shown(name)} is read as {stripped!r}, measured on the {tiles} tiles")
    raise ConfigError(
        f"{place} = {shown(name)}: no trial reports it{suggestion(name, legal)}; reported: {', '.join(legal)}"
    )


def usual_mode(metric: str) -> str | None:
    """``max`` or ``min``, as anybody would have it; None for a metric without a better side."""
    if metric.startswith(_LARGER_IS_BETTER):
        return "max"
    return "min" if metric.startswith(_SMALLER_IS_BETTER) else None


def _within(name: str, group: str) -> str | None:
    inside = [path for path in leaf_paths() if path.startswith(f"{group}.")]
    for candidate in (f"{group}.{name}", PARAMETERS.get(name)):
        if candidate in inside:
            return candidate
    return _only(path for path in inside if path.endswith(f".{name}"))


def _anywhere(name: str) -> str | None:
    if name in leaf_paths():
        return name
    return PARAMETERS.get(name) or _only(path for path in leaf_paths() if path.endswith(f".{name}"))


def _only(paths: Iterable[str]) -> str | None:
    found = list(paths)
    return found[0] if len(found) == 1 else None


def _unknown(name: str, group: str | None) -> str:
    """Why there is no such parameter: the name is the end of several paths, or of none."""
    ends = [path for path in leaf_paths() if path.endswith(f".{name}")]
    if ends:
        return f"the name is ambiguous; write one of {', '.join(ends)}"
    known = {*leaf_paths(), *PARAMETERS, *SEEDS, *(path.rpartition(".")[2] for path in leaf_paths())}
    inside = [path.rpartition(".")[2] for path in leaf_paths() if group is not None and path.startswith(f"{group}.")]
    near = suggestion(name, inside) or suggestion(name, known)
    return f"unknown parameter{near}" + ("" if near else f"; known: {', '.join(leaf_paths())}")


def _sections() -> list[str]:
    return sorted({path.rpartition(".")[0] for path in leaf_paths()})
