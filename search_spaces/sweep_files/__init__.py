"""W&B sweep files, run unchanged: their YAML becomes an `Experiment`. Nothing is left out silently.

`reading` makes plain values of the YAML, `checks` says what is wrong in them and where, `names` finds our paths and
metrics for W&B's names, `values` and `distributions` make domains, and `translation` the experiment.
`docs/sweep-files.md` has the tables.
"""

from search_spaces.sweep_files.translation import Sweep, load_sweep

__all__ = ["Sweep", "load_sweep"]
