"""Checks of an export: parity with torch, element types of the heavy arithmetic, memory and disk that are needed."""
