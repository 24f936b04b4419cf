"""The data of a tile store in figures: objects, boxes, magnitudes, sky and labels, as tables and pictures."""

from satdet.describe.figures import draw_figures
from satdet.describe.statistics import DataStatistics, Summary, collect, summarise, table

__all__ = ["DataStatistics", "Summary", "collect", "draw_figures", "summarise", "table"]
