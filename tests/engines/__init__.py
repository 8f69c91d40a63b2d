"""Tests of precision, recipes, builds, signatures and publishing."""
