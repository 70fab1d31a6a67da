"""Commands of ``python -m pytest_unlearndiff``."""
