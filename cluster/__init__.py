"""Files that start Ray, MLflow and the same command elsewhere, and what checks them (``python -m cluster.check``)."""
