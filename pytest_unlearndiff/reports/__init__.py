"""Floor 4: one writer each. They say what floors 0 to 3 found; they decide nothing."""
