"""The fixtures of the matrices, for all modules here."""

from ..matrix import driver, scene, stage

__all__ = ["driver", "scene", "stage"]
