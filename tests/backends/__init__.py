"""Tests of the device backends, on stand-ins for hardware that is not here."""
