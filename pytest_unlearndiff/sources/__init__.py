"""Layer 1: from what a user writes to files on this machine: paths, Hub ids, URLs, base and format. No torch."""
