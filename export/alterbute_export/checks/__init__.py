"""Checks of an export: parity with torch, element types of the heavy arithmetic, required memory and disk."""
