"""Floor 5, beside the plugin: one module a command of ``python -m pytest_unlearndiff``; they know no pytest."""
