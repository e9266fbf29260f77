"""Formats of model files: one file each. Nothing here loads torch or onnxruntime before a file needs them."""
