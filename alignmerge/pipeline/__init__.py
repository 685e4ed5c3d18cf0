"""Merge, audit, decide, publish: the only place that knows all parts."""
