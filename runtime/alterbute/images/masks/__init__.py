"""Masks as people have them: levels, polarity, label values, connected pieces, and shapes and annotations in place of a picture."""
