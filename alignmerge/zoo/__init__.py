"""The zoo: a safety anchor and three task experts for the reference model, reproducible from our own data."""
