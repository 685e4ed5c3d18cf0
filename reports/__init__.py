"""What people read: one self-contained HTML file made from records."""

if __name__ == "reports":
    raise ImportError("import alignmerge.reports, not reports: the folder is a subpackage of alignmerge")
