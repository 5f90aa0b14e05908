"""The fixtures of `tests/matrix.py`, for all modules in this folder."""

from ..matrix import driver, scene, stage

__all__ = ["driver", "scene", "stage"]
