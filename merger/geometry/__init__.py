"""The geometry of AlignMerge: chart, per-example gradients, alignment functional and the iterated solve."""
