"""Image files: folders, formats, decoding."""
