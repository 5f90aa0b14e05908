"""The one place where the version is written; `setup.cfg` and the token request's User-Agent read it here."""

__version__ = "0.1.0"
