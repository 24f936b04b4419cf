"""Searches that train nothing: recorded learning curves, replayed through the real searchers and schedulers.

`recordings` holds the curves and finds the one for a suggestion, `virtual` is a search with a clock of its own,
`strategies` names the pairs of searcher and scheduler, `comparison` says which of them is how good after how many
epochs, and `report` shows it.
"""
