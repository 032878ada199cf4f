"""Tests against a resistive memory array: fixtures, `--rram-device`, and fault markers."""

from __future__ import annotations
