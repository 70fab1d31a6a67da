"""Floor 3: runs what the store lacks."""
