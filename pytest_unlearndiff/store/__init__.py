"""Floor 1: what is known already. Fingerprints, keys, journals and their folder; JSON only."""
