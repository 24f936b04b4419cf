"""Evaluation of a trained detector without training: a grid of settings in one pass, with tables, figures and pictures.

``python -m satdet.evaluate`` is all of it. `data` sees to it that tiles and checkpoint belong together, `grid`
evaluates, `failures` finds what went worst, `results`, `figures` and `report` show it.
"""
