"""How an answer becomes a number: one file per scorer."""
