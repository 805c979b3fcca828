"""What QGIS loads: registers the provider, also in qgis_process, which has no window."""

from qgis.core import QgsApplication

from .provider import Provider


class Plugin:
    """Adds the provider to Processing while the plugin is loaded."""

    def __init__(self):
        self._provider = None

    def initProcessing(self):
        """Register the provider; qgis_process calls this alone."""
        self._provider = Provider()
        QgsApplication.processingRegistry().addProvider(self._provider)

    def initGui(self):
        """Register the provider in the window."""
        self.initProcessing()

    def unload(self):
        """Remove the provider."""
        QgsApplication.processingRegistry().removeProvider(self._provider)
