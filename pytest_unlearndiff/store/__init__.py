"""Layer 1: finished outcomes on disk. Fingerprints, keys, journals and their folder; JSON only."""
