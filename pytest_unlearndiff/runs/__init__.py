"""Campaigns: the store first, then the engine that attacks what it lacks."""
