"""Outcomes of real (small) attacks, recorded before the package was rebuilt: a change of structure must not change them."""
