"""What is asked: items, templates and which scorer reads the answer."""

if __name__ == "suites":
    raise ImportError("import alignmerge.suites, not suites: the folder is a subpackage of alignmerge")
