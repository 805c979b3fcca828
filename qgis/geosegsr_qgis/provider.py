"""The algorithms of geosegsr in the Processing toolbox."""

import os

from qgis.core import (
    QgsProcessingAlgorithm,
    QgsProcessingException,
    QgsProcessingParameterDefinition,
    QgsProcessingParameterEnum,
    QgsProcessingParameterFileDestination,
    QgsProcessingParameterRasterDestination,
    QgsProcessingParameterRasterLayer,
    QgsProcessingParameterString,
    QgsProcessingProvider,
    QgsSettings,
)

from . import command

COMMAND_SETTING = "geosegsr/command"
SCALES = ["2", "3", "4", "8"]


class Provider(QgsProcessingProvider):
    """The group "geosegsr" of the toolbox."""

    def id(self):
        return "geosegsr"

    def name(self):
        return "geosegsr"

    def longName(self):
        return "geosegsr: super-resolution"

    def loadAlgorithms(self):
        for algorithm in (Upscale, Sharpen, Report):
            self.addAlgorithm(algorithm())


class _Algorithm(QgsProcessingAlgorithm):
    """One command; parameters become its arguments."""

    def createInstance(self):
        return type(self)()

    def group(self):
        return ""

    def groupId(self):
        return ""

    def _add_common(self):
        more = QgsProcessingParameterString(
            "OPTIONS", "More options of `geosegsr upscale`, as typed in a shell", optional=True
        )
        more.setFlags(more.flags() | QgsProcessingParameterDefinition.FlagAdvanced)
        self.addParameter(more)
        self.addParameter(QgsProcessingParameterRasterDestination("OUTPUT", "Result"))

    def _source(self, parameters, name, context):
        layer = self.parameterAsRasterLayer(parameters, name, context)
        if layer is None or layer.providerType() != "gdal":
            raise QgsProcessingException(f"{name}: a raster layer that GDAL reads is needed.")
        return layer.source()

    def _run(self, arguments, feedback):
        program = QgsSettings().value(COMMAND_SETTING) or os.environ.get("GEOSEGSR_COMMAND") or "geosegsr"
        feedback.pushCommandInfo(" ".join([program, *arguments]))
        try:
            return command.run(
                program,
                arguments,
                tell=feedback.pushInfo,
                progress=feedback.setProgress,
                stopped=feedback.isCanceled,
            )
        except command.FailedError as error:
            raise QgsProcessingException(str(error)) from error


class Upscale(_Algorithm):
    """geosegsr upscale."""

    def name(self):
        return "upscale"

    def displayName(self):
        return "Upscale a raster"

    def shortHelpString(self):
        return (
            "Writes the same ground at 2, 3, 4 or 8 times the resolution, as a Cloud-Optimized GeoTIFF with the "
            "georeference and the metadata of the input. Detail finer than the input's pixels is the model's guess."
        )

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Raster"))
        self.addParameter(
            QgsProcessingParameterEnum("SCALE", "Scale", SCALES, defaultValue="4", usesStaticStrings=True)
        )
        self.addParameter(
            QgsProcessingParameterString(
                "MODEL",
                "Model: bundled, nearest, bilinear, bicubic, lanczos, or a file",
                defaultValue="bundled",
            )
        )
        self._add_common()

    def processAlgorithm(self, parameters, context, feedback):
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        arguments = command.upscale_arguments(
            self._source(parameters, "INPUT", context),
            output,
            scale=int(self.parameterAsEnumString(parameters, "SCALE", context)),
            model=self.parameterAsString(parameters, "MODEL", context),
            options=self.parameterAsString(parameters, "OPTIONS", context),
        )
        self._run(arguments, feedback)
        return {"OUTPUT": output}


class Sharpen(_Algorithm):
    """geosegsr upscale --guide."""

    def name(self):
        return "sharpen"

    def displayName(self):
        return "Sharpen bands by a sharper raster"

    def shortHelpString(self):
        return (
            "Brings coarse bands, such as the 20 m bands of Sentinel-2, to the pixels of a sharper raster of the same "
            "ground, whose detail guides them. Reduced again, the result gives the input."
        )

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Raster with coarse bands"))
        self.addParameter(QgsProcessingParameterRasterLayer("GUIDE", "Sharper raster of the same ground"))
        self._add_common()

    def processAlgorithm(self, parameters, context, feedback):
        output = self.parameterAsOutputLayer(parameters, "OUTPUT", context)
        arguments = command.sharpen_arguments(
            self._source(parameters, "INPUT", context),
            self._source(parameters, "GUIDE", context),
            output,
            options=self.parameterAsString(parameters, "OPTIONS", context),
        )
        self._run(arguments, feedback)
        return {"OUTPUT": output}


class Report(_Algorithm):
    """geosegsr report."""

    def name(self):
        return "report"

    def displayName(self):
        return "Judge an upscaled raster"

    def shortHelpString(self):
        return (
            "Compares a result with the raster that it was made of, and writes an HTML page: a verdict in words, pictures to "
            "compare, and all measures. No truth is needed."
        )

    def initAlgorithm(self, config=None):
        self.addParameter(QgsProcessingParameterRasterLayer("INPUT", "Raster that was upscaled"))
        self.addParameter(QgsProcessingParameterRasterLayer("RESULT", "Result"))
        self.addParameter(QgsProcessingParameterFileDestination("OUTPUT", "Report", "HTML files (*.html)"))

    def processAlgorithm(self, parameters, context, feedback):
        output = self.parameterAsFileOutput(parameters, "OUTPUT", context)
        arguments = command.report_arguments(
            self._source(parameters, "INPUT", context), self._source(parameters, "RESULT", context), output
        )
        self._run(arguments, feedback)
        return {"OUTPUT": output}
