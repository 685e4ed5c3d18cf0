"""The demonstration: its recipe, beside this file, and nothing that knows how it ends."""
