"""Outcomes of real (small) attacks from before the package was rebuilt: a change of structure must not change them."""
