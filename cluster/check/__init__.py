"""Checks the files of `cluster`, offline: their form, what must hold of all of them, and that they agree."""
