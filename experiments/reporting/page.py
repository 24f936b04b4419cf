"""A report as one HTML file that needs nothing else: no script, no font, no picture from anywhere."""

import base64
import html
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.answer import answer
from experiments.compare import render
from experiments.progress import clock
from experiments.reporting.evidence import Evidence
from experiments.reporting.figures import Drawing, style
from experiments.reporting.published import PUBLISHED
from experiments.reporting.style import STYLE
from experiments.wording import setting_text, space_lines, value_text
from search_spaces.declare import Experiment

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Chapter:
    """One search of a report, drawn."""

    evidence: Evidence
    drawings: Sequence[Drawing]

    @property
    def answer(self) -> str:
        """The answer in a sentence or two."""
        state = self.evidence.state
        return answer(self.evidence.rows, state.metric, state.mode)


def page(chapters: Sequence[Chapter], title: str) -> str:
    """The whole page."""
    body = "\n".join("\n".join(_chapter(chapter, alone=len(chapters) == 1)) for chapter in chapters)
    contents = "" if len(chapters) == 1 else _contents(chapters)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{_text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{_text(title)}</h1>\n{contents}{body}\n</body>\n</html>\n"
    )


def _contents(chapters: Sequence[Chapter]) -> str:
    items = "".join(
        f'<li><a href="#{_text(each.evidence.name)}">{_text(each.evidence.declaration["question"])}</a>'
        f" {_text(each.answer)}</li>"
        for each in chapters
    )
    return f"<ol>{items}</ol>\n"


def _chapter(chapter: Chapter, *, alone: bool) -> Iterator[str]:
    evidence = chapter.evidence
    declaration = evidence.declaration
    if not alone:
        yield f'<h2 id="{_text(evidence.name)}">{_text(evidence.name)}</h2>'
    yield f"<p><strong>{_text(declaration['question'])}</strong></p>"
    yield f'<p class="answer">{_text(chapter.answer)}</p>'
    yield f'<p class="quiet">{_text(_standing(evidence))}</p>'
    yield f'<div class="wide">{render([evidence.summary], "html", baseline=evidence.baseline)}</div>'
    yield from _published(declaration["name"])
    for drawing in chapter.drawings:
        yield _figure(drawing.title, drawing.caption, svg(drawing, f"{evidence.name}-{drawing.name}"))
    yield from _pictures(evidence)
    yield "<h3>Protocol</h3>"
    yield _rows(protocol(evidence))
    yield "<h3>Made with</h3>"
    yield _rows(made_with(evidence))
    yield _details("Every trial", _trials(evidence))
    yield _details("The declaration", f"<pre>{_text(json.dumps(declaration, indent=1))}</pre>")


def _standing(evidence: Evidence) -> str:
    state = evidence.state
    ended = len(state.trials) - len(state.open_trials())
    return (
        f"{evidence.name}: {state.status}; {ended} of {len(state.trials)} trials have ended, in {clock(state.seconds)}."
    )


def _published(name: str) -> Iterator[str]:
    """What the observatory's report had found, marked as that."""
    if name in PUBLISHED:
        yield "<h3>Published before</h3>"
        yield '<p class="quiet">By the observatory’s report: single runs without seeds, on its own frames.</p>'
        yield _rows({each.cell: each.figure for each in PUBLISHED[name]})


def _pictures(evidence: Evidence) -> Iterator[str]:
    """Detections of the best and of the worst trial, on the same tiles; of an evaluation, of each that has some."""
    ranking = [trial for trial in evidence.state.ranking() if trial.status != "failed"]
    if evidence.state.task == "train":
        ranking = ranking[:1] + ranking[1:][-1:]
    found = []
    for trial in ranking:
        try:
            picture = evidence.search.trial_here(trial.trial_id) / "detections.png"
            content = picture.read_bytes()
        except OSError:
            continue
        best = trial.best(evidence.state.metric, evidence.state.mode)[evidence.state.metric]
        values = " ".join(f"{path}={value_text(value)}" for path, value in trial.values.items())
        caption = f"{trial.trial_id}: {values} seed {trial.seed}, {evidence.state.metric} {best:.4f}"
        found.append(_figure(caption, "", _image(content, "image/png")))
    if found:
        yield "<h3>Detections</h3>"
        best_and_worst = (
            "The best and the worst trial on" if evidence.state.task == "train" and len(found) > 1 else "On"
        )
        yield f'<p class="quiet">{best_and_worst} the same tiles.</p><div class="pair">{"".join(found)}</div>'


def protocol(evidence: Evidence) -> dict[str, str]:
    """How the question was asked."""
    experiment = Experiment.of_json(evidence.declaration)
    objective = experiment.objective
    return {
        "objective": f"{'largest' if objective.mode == 'max' else 'smallest'} {objective.metric} of a trial's epochs",
        "space": "; ".join(space_lines(experiment.space)) or "nothing is varied",
        "searcher": setting_text(experiment.searcher),
        "scheduler": setting_text(experiment.scheduler),
        "stoppers": "; ".join(map(setting_text, experiment.stoppers)) or "none",
        "seeds": str(experiment.seeds),
        "data": f"{evidence.state.header['data']['source']}, digest {evidence.state.header['data']['digest']}",
        "intervals": "95 %, residual bootstrap over cells and seeds, of means and of paired differences",
    }


def made_with(evidence: Evidence) -> dict[str, str]:
    """Environment, as recorded when the search began, and what the trials ran on."""
    environment = evidence.state.header.get("environment", {})
    hardware = sorted({trial.hardware for trial in evidence.state.trials.values() if trial.hardware})
    flat = {key: value_text(value) for key, value in environment.items() if not isinstance(value, Mapping)}
    for key, value in environment.items():
        if isinstance(value, Mapping):
            flat[key] = ", ".join(f"{name} {each}" for name, each in value.items())
    seeds = sorted({trial.seed for trial in evidence.state.trials.values()})
    return flat | {"hardware": "; ".join(hardware) or "not recorded", "seeds": ", ".join(map(str, seeds))}


def _trials(evidence: Evidence) -> str:
    metric = evidence.state.metric
    lines = []
    for trial in evidence.state.trials.values():
        best = trial.best(metric, evidence.state.mode)
        values = " ".join(f"{path}={value_text(value)}" for path, value in trial.values.items())
        why = trial.error or trial.detail or ""
        outcome = f"{trial.status} ({trial.stop_reason})" if trial.stop_reason else trial.status
        cells = [trial.trial_id, values, str(trial.seed), f"{best[metric]:.4f}" if best else "", str(trial.epochs)]
        lines.append([*cells, clock(trial.seconds), outcome, why])
    heading = ["trial", "values", "seed", metric, "epochs", "time", "outcome", "why"]
    return f'<div class="wide">{_table(heading, lines)}</div>'


def svg(drawing: Drawing, name: str) -> str:
    """The figure as an element of the page, with identifiers of its own."""
    stream = io.StringIO()
    with style():
        drawing.figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    return _own_ids(text[text.index("<svg") :], name)


def _own_ids(text: str, name: str) -> str:
    """Figures on one page must not share identifiers."""
    for before in ('id="', 'href="#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    return text


def _figure(title: str, caption: str, content: str) -> str:
    return f"<figure><h3>{_text(title)}</h3>{content}<figcaption>{_text(caption)}</figcaption></figure>"


def _image(content: bytes, kind: str) -> str:
    return f'<img alt="detections" src="data:{kind};base64,{base64.b64encode(content).decode()}">'


def _rows(rows: Mapping[str, str]) -> str:
    body = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows.items())
    return f"<table>{body}</table>"


def _table(heading: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    def row(tag: str, cells: Sequence[Any]) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table>{row('th', heading)}{''.join(row('td', line) for line in lines)}</table>"


def _details(summary: str, content: str) -> str:
    return f"<details><summary>{_text(summary)}</summary>{content}</details>"


def _text(text: str) -> str:
    return html.escape(text)


def write_page(path: Path, chapters: Sequence[Chapter], title: str) -> None:
    """Write the page."""
    path.write_text(page(chapters, title), encoding="utf-8")
