"""From what a user writes to files on this machine: paths, Hub ids, URLs, which base, which format. No torch."""
