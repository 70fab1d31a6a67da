"""The engine on many processes, with Ray."""
