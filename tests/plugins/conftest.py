"""The fixtures of the pytest plugin, for the modules in this folder. The suite loads no plugin by its entry point."""

from dolby_auth_plugin.pytest_plugin import dolby_auth_env, dolby_sandbox, dolby_sandbox_server

__all__ = ["dolby_auth_env", "dolby_sandbox", "dolby_sandbox_server"]
