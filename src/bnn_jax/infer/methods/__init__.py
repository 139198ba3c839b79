"""The inference methods, one file each, with the same headings in the same order."""
