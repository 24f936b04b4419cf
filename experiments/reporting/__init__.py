"""Reports of searches: what was asked, what came of it, and how sure that is, on one page and for paper.

`evidence` gathers what a record says, `figures` draws it, `importance` asks which hyperparameter mattered, `published`
knows what the observatory's report had found, `page` puts it all into one self-contained HTML file, `paper` into LaTeX.
"""
