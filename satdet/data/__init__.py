"""From frames and catalogues to a store of tiles, and from the store to a detector's input."""
