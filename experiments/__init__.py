"""The platform: runs a declared search on Ray, records it exactly, and shows it in MLflow, W&B and the terminal."""
