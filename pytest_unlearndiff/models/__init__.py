"""Floor 2: from a path to a victim. Imports torch and diffusers."""
