"""Verbs that take a photo: `edit`, `mask` and `compare`, and the options that they share."""
