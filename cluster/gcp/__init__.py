"""A Ray cluster on Google Cloud: private addresses, a head without trials, spot machines with GPUs as needed."""
