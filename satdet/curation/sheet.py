"""The contact sheet: one HTML page of all frames with pictures, suggestions and boxes to tick, complete in itself."""

import base64
import csv
import html
import io
import json
from collections import Counter
from collections.abc import Sequence

from satdet.curation.review import Review
from satdet.data.labels import KNOWN_LABELS

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --mark: #b36b00; }
@media (prefers-color-scheme: dark) { :root { --mark: #e69f00; } }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; }
header p { max-width: 60rem; }
nav { position: sticky; top: 0; z-index: 1; background: Canvas; padding: .6rem 0; }
nav { border-bottom: 1px solid var(--line); }
nav button { font: inherit; margin: 0 .3rem .3rem 0; padding: .15rem .6rem; cursor: pointer; }
nav button[aria-pressed=true] { outline: 2px solid var(--mark); }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem; margin-top: 1rem; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; }
article img { width: 100%; height: auto; background: #000; }
h2 { font-size: .95rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
ul { margin: .4rem 0; padding-left: 1.1rem; } li b { color: var(--mark); }
.none, .figures { opacity: .75; } .figures { font-size: .82rem; margin: .4rem 0; }
fieldset { border: 0; padding: 0; margin: 0; } label { display: inline-block; margin-right: .7rem; font-size: .88rem; }
input[type=text] { width: 95%; font: inherit; font-size: .88rem; }
"""
_SCRIPT = """
const cards = [...document.querySelectorAll('article')];
document.querySelectorAll('nav [data-show]').forEach(button => button.onclick = () => {
  document.querySelectorAll('nav [data-show]').forEach(each => each.setAttribute('aria-pressed', each === button));
  const wanted = button.dataset.show;
  cards.forEach(card => card.hidden = wanted !== '*' && !card.dataset.suggested.split(' ').includes(wanted));
});
const cell = text => /[",\\n]/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
document.getElementById('save').onclick = () => {
  const rows = cards.map(card => [
    card.dataset.frame,
    [...card.querySelectorAll('input:checked')].map(box => box.value).concat(JSON.parse(card.dataset.other)).join(';'),
    card.querySelector('input[type=text]').value]);
  const text = [['frame', 'labels', 'note'], ...rows].map(row => row.map(cell).join(',')).join('\\n') + '\\n';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'text/csv'}));
  link.download = 'labels.csv';
  link.click();
};
"""


def contact_sheet(title: str, reviews: Sequence[Review]) -> str:
    """The page as HTML, frames with suggestions first.

    It asks nothing of the network, and what is ticked on it can be saved as a label file.
    """
    reviews = sorted(reviews, key=lambda review: not _labels(review))
    suggested = Counter(label for review in reviews for label in _labels(review))
    buttons = [_button("*", f"all {len(reviews)}", pressed=True)]
    buttons += [_button(label, f"{label} {count}") for label, count in sorted(suggested.items())]
    buttons.append(_button("none", f"nothing suggested {sum(not _labels(review) for review in reviews)}"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>\n'
        f"<header><h1>{html.escape(title)}</h1><p>What is suggested is only a suggestion, from measurements with fixed "
        "thresholds: nothing is excluded until it stands in the label file. The boxes show the labels that the frames "
        "have now. Tick, then save the label file into the folder of frames.</p></header>\n"
        f'<nav>{"".join(buttons)}<button id="save">save labels.csv</button></nav>\n<main>\n'
        + "\n".join(_card(review) for review in reviews)
        + f"\n</main><script>{_SCRIPT}</script></body></html>\n"
    )


def suggestion_table(reviews: Sequence[Review]) -> str:
    """The suggestions in the form of a label file, with the reasons as notes; frames without any are left out."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["frame", "labels", "note"])
    for review in reviews:
        if labels := _labels(review):
            reasons = [each.reason for each in review.suggestions] + ([review.error] if review.error else [])
            writer.writerow([review.name, ";".join(labels), "; ".join(reasons)])
    return buffer.getvalue()


def _labels(review: Review) -> list[str]:
    if review.error is not None:
        return ["UNREADABLE"]
    return list(dict.fromkeys(each.label for each in review.suggestions))


def _button(value: str, text: str, *, pressed: bool = False) -> str:
    return f'<button data-show="{value}" aria-pressed="{str(pressed).lower()}">{html.escape(text)}</button>'


def _card(review: Review) -> str:
    suggested = " ".join(_labels(review)) or "none"
    other = [label for label in review.given.labels if label not in KNOWN_LABELS]
    return (
        f'<article data-frame="{html.escape(review.name)}" data-suggested="{suggested}" '
        f'data-other="{html.escape(json.dumps(other))}"><h2>{html.escape(review.path)}</h2>'
        f"{_image(review)}{_reasons(review)}{_figures(review)}"
        f"<fieldset>{''.join(_tick(label, label in review.given.labels) for label in KNOWN_LABELS)}"
        f'<input type="text" placeholder="note" aria-label="note" value="{html.escape(review.given.note)}">'
        "</fieldset></article>"
    )


def _image(review: Review) -> str:
    if not review.picture:
        return ""
    data = base64.b64encode(review.picture).decode()
    return f'<img loading="lazy" alt="{html.escape(review.name)}" src="data:image/jpeg;base64,{data}">'


def _reasons(review: Review) -> str:
    if review.error is not None:
        return f"<ul><li><b>UNREADABLE</b> {html.escape(review.error)}</li></ul>"
    if not review.suggestions:
        return '<p class="none">Nothing suggested.</p>'
    items = (f"<li><b>{each.label}</b> {html.escape(each.reason)}</li>" for each in review.suggestions)
    return f"<ul>{''.join(items)}</ul>"


def _figures(review: Review) -> str:
    found = review.measures
    if found is None:
        return ""
    return (
        f'<p class="figures">{found.objects} objects, {found.sources} sources; {found.saturated} saturated px; '
        f"background slope {found.gradient:.1f}, unevenness {found.unevenness:.1f}, step {found.step:.1f} sigma</p>"
    )


def _tick(label: str, given: bool) -> str:
    return f'<label><input type="checkbox" value="{label}"{" checked" if given else ""}>{label}</label>'
