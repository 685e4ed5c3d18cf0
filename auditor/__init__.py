"""What is measured: engines answer, scorers turn answers into numbers, audits keep them."""

if __name__ == "auditor":
    raise ImportError("import alignmerge.auditor, not auditor: the folder is a subpackage of alignmerge")
