"""Floor 5: all that knows pytest. Nothing is imported before a gate needs it."""
