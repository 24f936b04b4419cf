"""From measurements to labels that a curator may want to give; never more than suggestions."""

from dataclasses import dataclass, field

from satdet._fields import Checked, bounded
from satdet.curation.measures import Measures


@dataclass(frozen=True, kw_only=True)
class SuggestionRule(Checked):
    """From where on something is suggested; the defaults were chosen on simulated frames, see ``docs/detector.md``."""

    saturated: int = bounded(2000, minimum=1)
    """ESO: so many saturated pixels …"""
    bleed: int = bounded(40, minimum=1)
    """… with so many of them in one unbroken run."""
    line: float = bounded(0.75, above=0, maximum=1)
    """TRACE: share of a straight line that is bright …"""
    line_contrast: float = bounded(0.3, minimum=0, maximum=1)
    """… and by how much that is above the share of the darkest line that is dark."""
    gradient: float = bounded(15.0, above=0)
    """GRADIENT: change of the background over the frame [noise units]."""
    unevenness: float = bounded(20.0, above=0)
    """LIGHT: range of the background about a plane [noise units]."""
    step: float = bounded(3.0, above=0)
    """AMPLIFIER: a sudden change of level [noise units] …"""
    step_significance: float = bounded(12.0, above=0)
    """… so many times as large as such changes usually are on the frame …"""
    edge: float = bounded(0.5, above=0, maximum=1)
    """… along an edge: share of the darkest line that is dark."""
    on_nothing: float = bounded(0.1, above=0, maximum=1)
    """CATALOGUE: share of boxes that sit on nothing."""
    implausible: float = bounded(3.0, above=1)
    """CATALOGUE: factor between the number of objects and that of visible sources, either way."""
    fewest_sources: int = bounded(20, minimum=1)
    """A frame with fewer visible sources is not judged by their number."""


@dataclass(frozen=True)
class Suggestion:
    """A label, why, and where on the frame.

    Attributes
    ----------
    label : str
    reason : str
        With the figures that led to it.
    lines : list of tuple
        x1, y1, x2, y2 [px] of lines to show.
    boxes : list of tuple
        x1, y1, x2, y2 [px] of boxes to show.
    """

    label: str
    reason: str
    lines: list[tuple[float, ...]] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)


def suggest(found: Measures, rule: SuggestionRule) -> list[Suggestion]:
    """The labels that measurements of a frame suggest; an empty list where nothing speaks against OK."""
    suggestions = []
    if found.saturated >= rule.saturated and found.longest_bleed >= rule.bleed:
        reason = f"{found.saturated} saturated pixels, up to {found.longest_bleed} in a row"
        suggestions.append(Suggestion("ESO", reason))
    if found.line >= rule.line and found.line - found.dark_line >= rule.line_contrast:
        reason = f"a straight line across the frame, {found.line:.0%} of it bright"
        suggestions.append(Suggestion("TRACE", reason, lines=[found.line_ends]))
    suggestions += _background(found, rule)
    suggestions += _catalogue(found, rule)
    return suggestions


def _background(found: Measures, rule: SuggestionRule) -> list[Suggestion]:
    suggestions = []
    sudden = found.step >= rule.step and found.step_significance >= rule.step_significance
    if sudden and found.dark_line >= rule.edge:
        suggestions.append(Suggestion("AMPLIFIER", f"the level changes at an edge by {found.step:.1f} sigma"))
    elif found.unevenness >= rule.unevenness and found.unevenness > found.gradient / 2:
        suggestions.append(Suggestion("LIGHT", f"the background is uneven by {found.unevenness:.0f} sigma"))
    elif found.gradient >= rule.gradient:
        suggestions.append(Suggestion("GRADIENT", f"the background changes by {found.gradient:.0f} sigma"))
    return suggestions


def _catalogue(found: Measures, rule: SuggestionRule) -> list[Suggestion]:
    if found.objects == 0:
        return [Suggestion("CATALOGUE", f"no object in the catalogue, {found.sources} sources in the frame")]
    suggestions = []
    ratio = found.objects / max(1, found.sources)
    if found.sources >= rule.fewest_sources and not 1 / rule.implausible <= ratio <= rule.implausible:
        reason = f"{found.objects} objects in the catalogue, {found.sources} sources in the frame"
        suggestions.append(Suggestion("CATALOGUE", reason))
    if len(found.on_nothing) >= max(2, rule.on_nothing * found.objects):
        boxes = [tuple(box) for box in found.on_nothing.tolist()]
        reason = f"{len(boxes)} of {found.objects} boxes sit on nothing"
        suggestions.append(Suggestion("CATALOGUE", reason, boxes=boxes))
    return suggestions
