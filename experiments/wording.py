"""Declared values as people read them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from search_spaces.declare import (
    Beta,
    Choice,
    Constant,
    Domain,
    Fragments,
    IntUniform,
    LogNormal,
    Normal,
    Permutation,
    Quantised,
    SearchSpace,
)  # fmt: skip

_SHOWN_VALUES = 8


def values_text(values: Mapping[str, Any]) -> str:
    """A point in one line."""
    return " ".join(f"{path}={value_text(value)}" for path, value in values.items())


def value_text(value: Any) -> str:
    """A value, numbers with as many digits as anybody needs."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(value_text, value)) + "]"
    return "none" if value is None else str(value)


def short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of paths, where they are different."""
    tails = [path.rpartition(".")[2] for path in paths]
    return [tail if tails.count(tail) == 1 else path for path, tail in zip(paths, tails, strict=True)]


def domain_text(domain: Domain) -> str:
    """A domain in one line."""
    match domain:
        case Constant(value=value):
            return value_text(value)
        case Choice(options=options, weights=None):
            return "one of " + ", ".join(map(value_text, options))
        case Choice(options=options, weights=weights):
            assert weights is not None
            shares = (weight / sum(weights) for weight in weights)
            pairs = zip(options, shares, strict=True)
            return "one of " + ", ".join(f"{value_text(option)} ({share:.0%})" for option, share in pairs)
        case Fragments(parts=parts):
            return "one of " + ", ".join(f"{name} ({values_text(part) or 'the base'})" for name, part in parts.items())
        case Permutation(fragments=fragments):
            return f"any order of {', '.join(map(value_text, fragments))}"
        case IntUniform(low=low, high=high, step=step):
            return f"whole numbers {low} to {high}" + (f" in steps of {step}" if step > 1 else "")
        case Quantised(of=of, step=step):
            return f"{domain_text(of)}, in multiples of {value_text(step)}"
        case LogNormal(mean=mean, std=std):
            return f"log-normal, mean {value_text(mean)} and std {value_text(std)} of the logarithm"
        case Normal(mean=mean, std=std):
            return f"normal, mean {value_text(mean)}, std {value_text(std)}"
        case Beta(a=a, b=b):
            return f"beta, a {value_text(a)}, b {value_text(b)}"
    kinds = {"Uniform": "uniform", "LogUniform": "log-uniform", "InverseLogUniform": "inverse log-uniform"}
    ends = (value_text(getattr(domain, end, None)) for end in ("low", "high"))
    return f"{kinds.get(type(domain).__name__, type(domain).__name__)} {' to '.join(ends)}"


def space_lines(space: SearchSpace) -> list[str]:
    """A space, a line each for domains, conditions and constraints."""
    lines = [f"{path}: {domain_text(domain)}" for path, domain in space.domains.items()]
    for when in space.conditions:
        lines += [f"when {when.condition}: {path}: {domain_text(domain)}" for path, domain in when.domains.items()]
    return lines + [f"not when {each.condition}: {each.because}" for each in space.constraints]


def setting_text(setting: Any) -> str:
    """A setting with the values that are set."""
    values = [f"{entry.name} {value_text(getattr(setting, entry.name))}" for entry in fields(setting)
              if getattr(setting, entry.name) is not None]  # fmt: skip
    return type(setting).__name__ + (f" ({', '.join(values)})" if values else "")
