"""A report for LaTeX: booktabs tables, figures as PDF, and a file that puts them in their places."""

from collections.abc import Sequence
from pathlib import Path

from experiments.compare import latex_text, render
from experiments.reporting.figures import style
from experiments.reporting.page import Chapter


def write_paper(folder: Path, chapters: Sequence[Chapter]) -> None:
    r"""Write ``report.tex``, to be read with ``\input``, and what it names, into `folder`."""
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "tables").mkdir(exist_ok=True)
    lines = [r"% \usepackage{booktabs,graphicx}"]
    for chapter in chapters:
        evidence = chapter.evidence
        table = folder / "tables" / f"{evidence.name}.tex"
        table.write_text(render([evidence.summary], "latex", baseline=evidence.baseline))
        lines += [
            rf"\section{{{latex_text(evidence.declaration['question'])}}}",
            latex_text(chapter.answer),
            r"\begin{table}\centering\small",
            rf"\input{{tables/{table.name}}}",
            rf"\caption{{{latex_text(evidence.name)}: means over seeds.}}\label{{tab:{evidence.name}}}",
            r"\end{table}",
        ]
        for drawing in chapter.drawings:
            name = f"{evidence.name}-{drawing.name}"
            with style():
                drawing.figure.savefig(folder / "figures" / f"{name}.pdf", metadata={"CreationDate": None})
            lines += [
                r"\begin{figure}\centering",
                rf"\includegraphics[width=\linewidth]{{figures/{name}.pdf}}",
                rf"\caption{{{latex_text(f'{drawing.title}. {drawing.caption}')}}}\label{{fig:{name}}}",
                r"\end{figure}",
            ]
    (folder / "report.tex").write_text("\n".join(lines) + "\n", encoding="utf-8")
