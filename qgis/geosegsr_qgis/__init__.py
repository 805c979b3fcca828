"""QGIS plugin: a Processing provider that runs the geosegsr command."""


def classFactory(iface):
    """The plugin; imported late, so that `command` can be used without QGIS."""
    from .plugin import Plugin

    return Plugin()
