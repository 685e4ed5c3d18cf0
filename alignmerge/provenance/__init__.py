"""Where a checkpoint came from and whether its bytes are still the same."""
