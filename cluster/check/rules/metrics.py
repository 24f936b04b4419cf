"""Dashboards and alerts ask only for metrics that somebody exports."""

import json
import re
from collections.abc import Iterator, Set
from typing import Any

from cluster.check.metric_names import PROMETHEUS_METRICS, RAY_METRICS, SATDET_METRICS
from cluster.check.model import Faults, Place, Rule
from cluster.check.site import Site

_KEYWORDS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on", "ignoring"}
_KEYWORDS |= {"group_left", "group_right", "start", "end", "e"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"' + r"|'(?:[^'\\]|\\.)*'")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\s*\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
_COMMON = {"job", "instance", "le", "quantile"}
"""Labels that Prometheus adds."""


def unknown_metrics(site: Site) -> Faults:
    """Names in expressions that neither Ray nor satdet exports, and labels that a metric of ours does not have."""
    known = {*SATDET_METRICS, *RAY_METRICS, *PROMETHEUS_METRICS, *_recorded(site)}
    for place, expression in expressions(site):
        for message in expression_faults(expression, known):
            yield place, f"{message} in {' '.join(expression.split())[:120]}"


def expressions(site: Site) -> Iterator[tuple[Place, str]]:
    """Every PromQL expression of the rules and dashboards of `cluster/monitoring`."""
    for document in site.documents:
        for number, group in enumerate(document.get("groups") or ()) if "/monitoring/" in document.file else ():
            for position, rule in enumerate(group.get("rules") or ()):
                keys = ("groups", number, "rules", position, "expr")
                yield document.place(*keys), str(rule.get("expr", ""))
    for name, text, dashboard in site.dashboards:
        for said, expression in _panel_expressions(dashboard):
            written = json.dumps(said, ensure_ascii=False)
            line = text[: text.find(written)].count("\n") + 1 if written in text else None
            yield Place(name, line), expression


def _recorded(site: Site) -> Iterator[str]:
    for document in site.documents:
        for group in document.get("groups") or ():
            yield from (rule["record"] for rule in group.get("rules") or () if "record" in rule)


def _panel_expressions(node: Any) -> Iterator[tuple[str, str]]:
    """What a dashboard says, and the expression in it."""
    if isinstance(node, list):
        for each in node:
            yield from _panel_expressions(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "expr" and isinstance(value, str):
                yield value, value
            elif key in ("query", "definition") and isinstance(value, str) and value.startswith("label_values("):
                yield value, value.removeprefix("label_values(").rpartition(",")[0]
            else:
                yield from _panel_expressions(value)


def expression_faults(expression: str, known: Set[str]) -> list[str]:
    """What an expression asks for that is not among the `known` metrics, or a label that one of ours does not have."""
    plain = _STRING.sub('""', expression)
    faults = []
    for metric, selector in _SELECTOR.findall(plain):
        labels = {pair.strip().rstrip("!=~").rstrip() for pair in re.split(r'=~?"|!=|!~|,', selector)} - {"", '"', '""'}
        labels = {label for label in labels if re.fullmatch(r"\w+", label)}
        strange = labels - SATDET_METRICS.get(metric, labels) - _COMMON
        faults += [f"{metric} has no label {label}" for label in sorted(strange)]
    bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}|\[[^\]]*\]|\"\"", " ", plain))
    for name in dict.fromkeys(_NAME.findall(bare)):
        if name.lower() not in _KEYWORDS and name not in known:
            faults.append(f"nobody exports {name}")
    return faults


RULES = (Rule("metric-names", "dashboards and alerts ask for metrics that are exported", unknown_metrics),)
