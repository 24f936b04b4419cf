"""Help for the curator: what can be measured on a frame, the labels that this suggests, and pictures to judge by.

``python -m satdet.curation`` writes them on one page.
"""
