"""What is allowed: policy files and the pure decision over audit records."""

if __name__ == "policies":
    raise ImportError("import alignmerge.policies, not policies: the folder is a subpackage of alignmerge")
