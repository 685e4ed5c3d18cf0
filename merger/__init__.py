"""How weights are combined: checkpoints, recipes, methods and the alignment geometry."""

if __name__ == "merger":
    raise ImportError("import alignmerge.merger, not merger: the folder is a subpackage of alignmerge")
