"""The seven graphs of a bundle, one file each."""
