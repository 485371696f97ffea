"""Registration of a model, a format of ``zoo export`` and a section of the HTML report.

The targets are strings, so listing models imports no torch.
"""

from zoo.registry import ExporterSpec, Flag, ModelSpec, ReportSectionSpec, hookimpl
from zoo.registry.hookspecs import RegisterExporter, RegisterModel, RegisterReportSection


@hookimpl
def zoo_register_models(register: RegisterModel) -> None:
    """Register ``tiny_fcn``."""
    flags = frozenset({Flag.EXPORTABLE, Flag.BATCH1_TRAINING})
    summary = "two convolutions and MCSA at full resolution"
    register(ModelSpec(name="tiny_fcn", target="zoo_example.model:TinyFCN", summary=summary, flags=flags))


@hookimpl
def zoo_register_exporters(register: RegisterExporter) -> None:
    """Register ``torchscript``, for programs in C++ that load models with LibTorch."""
    register(
        ExporterSpec(
            name="torchscript",
            target="zoo_example.torchscript:write",
            opener="zoo_example.torchscript:read",
            suffix=".ts",
            summary="a TorchScript file for LibTorch",
        )
    )


@hookimpl
def zoo_register_report_sections(register: RegisterReportSection) -> None:
    """Register a table of accuracy per parameter."""
    register(ReportSectionSpec(name="economy", target="zoo_example.economy:section", summary="Dice per parameter"))
