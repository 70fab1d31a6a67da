"""Floor 0: the words of the project as small typed values. No torch, no pytest, no files written."""
