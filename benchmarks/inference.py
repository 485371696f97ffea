"""Compare `zoo.deploy.optimize` with the same model in eager PyTorch, ONNX Runtime and OpenVINO.

All variants take turns in one run. All variants in a row have the same weights; the enhanced U-Net is also compared
with the optimised U-Net. "eager" is what a user gets from eval() alone: float32, channels first. "allocator" means
that the process raised the thresholds of glibc's allocator. They belong to a process, so one worker runs with them
and one without, and the two take turns. Weights are random, so bf16 is timed without its accuracy check;
`benchmarks/bf16_gate.py` checks it on trained weights.

--int8 also times eight-bit graphs in ONNX Runtime and OpenVINO, quantised as `zoo export` first tries, with two of
the images for calibration. Whether they are accurate enough is for `zoo export` to decide.

python benchmarks/inference.py [--models unet,...] [--batches 1,16] [--size 128] [--seconds 20] [--int8] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ZOO = ("unet", "enhanced_unet", "segnet", "deeplabv3plus", "mobilenetv2", "drs_unet", "model54_standin")
SMP = {
    "smp_unet_resnet18": ("Unet", "resnet18"),
    "smp_unet_mobilenet_v2": ("Unet", "mobilenet_v2"),
    "smp_deeplabv3plus_resnet50": ("DeepLabV3Plus", "resnet50"),
}
MODELS = (*ZOO, *SMP)
PLAIN = ("eager", "ours fp32", "ours bf16")
RAISED = ("eager", "ours fp32", "ours bf16", "ONNX Runtime", "OpenVINO")
INT8 = ("ONNX Runtime int8", "OpenVINO int8")


def build(name: str) -> Any:
    """A model with random weights, and batch normalisation as training leaves it rather than as it starts."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if name in SMP:
        import segmentation_models_pytorch as smp

        architecture, encoder = SMP[name]
        model = getattr(smp, architecture)(encoder, encoder_weights=None, in_channels=7, classes=2)
    else:
        from zoo.registry import create_model

        model = create_model(name)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def worker(pipe: Connection, name: str, batch: int, options: argparse.Namespace, raised: bool) -> None:
    """Build every variant of one model, then time a pass of one whenever asked."""
    import torch

    from zoo.deploy import optimize, raise_allocator_thresholds

    problem = raise_allocator_thresholds() if raised else None
    torch.set_num_threads(options.threads)
    model = build(name)
    images = torch.randn(batch, 7, options.size, options.size, generator=torch.Generator().manual_seed(1))
    chosen: dict[str, str] = {}

    def ours(precision: Any, label: str, subject: Any) -> Any:
        start = time.perf_counter()
        fast = optimize(subject, images, precision, gate=False)
        chosen[label] = fast.report.chosen
        print(f"\n{name}, {label}{', allocator' if raised else ''}, {time.perf_counter() - start:.0f} s")
        print(fast.report, flush=True)
        return fast

    def onnx_runtime(graph: Any = None) -> Any:
        from zoo.deploy.backends import OnnxRuntimeModule

        return OnnxRuntimeModule(model, images, dynamic=False, graph=graph)

    def openvino(graph: Any = None) -> Any:
        from zoo.deploy.backends import OpenVinoModule

        return OpenVinoModule(model, images, dynamic=False, graph=graph)

    def eight_bits() -> Any:
        from zoo.deploy.backends import export_onnx
        from zoo.deploy.quantise import quantise

        return quantise(export_onnx(model, images, dynamic=False), list(images[:2]))

    makers: dict[str, Callable[[], Any]] = {
        "eager": lambda: model,
        "ours fp32": lambda: ours("fp32", "ours fp32", model),
        "ours bf16": lambda: ours("bf16", "ours bf16", model),
        "ONNX Runtime": onnx_runtime,
        "OpenVINO": openvino,
        "ONNX Runtime int8": lambda: onnx_runtime(eight_bits()),
        "OpenVINO int8": lambda: openvino(eight_bits()),
    }
    labels = list(RAISED if raised else PLAIN)
    if raised and options.int8:
        labels += INT8
    if name == "enhanced_unet":
        for precision in ("fp32", "bf16"):
            label = f"optimised unet {precision}"
            makers[label] = partial(ours, precision, label, build("unet"))
            labels.append(label)
    variants: dict[str, Any] = {}
    for label in labels:
        try:
            variants[label] = makers[label]()
        except Exception as error:  # a peer that cannot run this model is left out, and said so
            print(f"{name}: {label} left out: {error}", flush=True)
    with torch.inference_mode():
        for variant in variants.values():
            variant(images)
        pipe.send((list(variants), chosen, problem))
        while (label := pipe.recv()) is not None:
            start = time.perf_counter()
            variants[label](images)
            pipe.send(time.perf_counter() - start)


def measure(name: str, batch: int, arguments: argparse.Namespace) -> list[dict[str, object]]:
    """Rows of one model at one batch size: median seconds of each variant, and the ratio of each peer to ours."""
    context = get_context("spawn")
    pipes: dict[bool, Connection] = {}
    labels: dict[bool, list[str]] = {}
    chosen: dict[bool, dict[str, str]] = {}
    processes = []
    for raised in (False, True):
        here, there = context.Pipe()
        process = context.Process(target=worker, args=(there, name, batch, arguments, raised))
        process.start()
        processes.append(process)
        # One at a time: the second measures its candidates when the first is silent.
        labels[raised], chosen[raised], problem = here.recv()
        pipes[raised] = here
        if problem:
            print(f"allocator thresholds are as they were: {problem}")
    times: dict[tuple[bool, str], list[float]] = {(raised, label): [] for raised in pipes for label in labels[raised]}
    started = time.perf_counter()
    rounds = 0
    while rounds < 3 or (time.perf_counter() - started < arguments.seconds and rounds < 30):
        for (raised, label), values in times.items():
            pipes[raised].send(label)
            values.append(pipes[raised].recv())
        rounds += 1
    for pipe in pipes.values():
        pipe.send(None)
    for process in processes:
        process.join()
    median = {key: statistics.median(values) for key, values in times.items()}
    rows: list[dict[str, object]] = []
    for precision in ("fp32", "bf16"):
        for raised in (False, True):
            mine = f"ours {precision}"
            ours = median.get((raised, mine))
            if ours is None:
                continue
            for (other, label), seconds in median.items():
                same = other == raised and label.endswith(precision)
                if label.startswith("ours") or (label.startswith("optimised") and not same):
                    continue
                rows.append(
                    {
                        "model": name,
                        "batch": batch,
                        "precision": precision,
                        "ours": chosen[raised][mine] + (" + allocator" if raised else ""),
                        "peer": label + (" + allocator" if other else ""),
                        "ours_s": ours,
                        "peer_s": seconds,
                        "ratio": seconds / ours,
                        "rounds": rounds,
                    }
                )
    return rows


COLUMNS = {
    "fp32 / eager": ("fp32", False, "eager"),
    "fp32 + a. / eager": ("fp32", True, "eager"),
    "fp32 + a. / eager + a.": ("fp32", True, "eager + allocator"),
    "fp32 + a. / ONNX Runtime": ("fp32", True, "ONNX Runtime + allocator"),
    "fp32 + a. / OpenVINO": ("fp32", True, "OpenVINO + allocator"),
    "bf16 / eager": ("bf16", False, "eager"),
    "bf16 + a. / eager": ("bf16", True, "eager"),
}


def show(rows: list[dict[str, Any]]) -> None:
    """One line a row."""
    print(f"\n{'model':28} {'batch':>5} {'prec.':5} {'ours ms':>8} {'peer ms':>8} {'ratio':>6}  peer / ours")
    for row in rows:
        print(
            f"{row['model']:28} {row['batch']:5} {row['precision']:5} {1000 * row['ours_s']:8.1f} "
            f"{1000 * row['peer_s']:8.1f} {row['ratio']:6.2f}  {row['peer']} / {row['ours']}"
        )


def show_markdown(rows: list[dict[str, Any]]) -> None:
    """The table of benchmarks/README.md: how many times as fast as a peer ours is."""
    cells: dict[tuple[str, int], dict[tuple[str, bool, str], float]] = {}
    for row in rows:
        place = (row["precision"], row["ours"].endswith("allocator"), row["peer"])
        cells.setdefault((row["model"], row["batch"]), {})[place] = row["ratio"]
    print("\n| model | batch |" + "".join(f" {column} |" for column in COLUMNS))
    print("|---|---:|" + "---:|" * len(COLUMNS))
    for (model, batch), found in cells.items():
        line = [f"{found[place]:.2f}" if place in found else "" for place in COLUMNS.values()]
        print(f"| `{model}` | {batch} | " + " | ".join(line) + " |")
    beside = [row for row in rows if row["peer"].startswith("optimised unet")]
    if beside:
        print("\n| enhanced U-Net to U-Net, both optimised | batch | time |\n|---|---:|---:|")
    for row in beside:
        print(f"| {row['precision']}, {row['ours']} | {row['batch']} | {1 / row['ratio']:.2f} |")
    seconds = {(row["model"], row["batch"], row["peer"]): row["peer_s"] for row in rows}
    pairs = [(f"{one.removesuffix(' int8')} + allocator", f"{one} + allocator") for one in INT8]
    eight = [place for place in cells if all((*place, peer) in seconds for pair in pairs for peer in pair)]
    if eight:
        print("\n| int8 beside float32 of the same backend | batch | ONNX Runtime | OpenVINO |\n|---|---:|---:|---:|")
    for place in eight:
        line = [f"{seconds[(*place, plain)] / seconds[(*place, quantised)]:.2f}" for plain, quantised in pairs]
        print(f"| `{place[0]}` | {place[1]} | " + " | ".join(line) + " |")


def keep(path: Path, machine: dict[str, object], rows: list[dict[str, Any]]) -> None:
    """Write rows as they come; those of other models and batches that the file holds stay."""
    before = json.loads(path.read_text())["rows"] if path.exists() else []
    fresh = {(row["model"], row["batch"]) for row in rows}
    others = [row for row in before if (row["model"], row["batch"]) not in fresh]
    path.write_text(json.dumps({"machine": machine, "rows": others + rows}, indent=2) + "\n")


def main() -> None:
    """Print a table, and write its rows with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="of timing a model and batch, three rounds at least"
    )
    parser.add_argument("--int8", action="store_true", help="time eight-bit graphs as well")
    parser.add_argument("--json", type=Path, help="write the rows here; rows of other models that it holds are kept")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing; print the rows of FILE as a table")
    arguments = parser.parse_args()
    if arguments.table:
        kept = json.loads(arguments.table.read_text())
        show_markdown(kept["rows"])
        machine = kept["machine"]
        print(f"\n{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}")
        return
    from zoo.schema import to_plain
    from zoo.training.compute import describe_environment

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        import os

        import torch

        os.environ["ZOO_CACHE"] = cache
        machine = to_plain(describe_environment(torch.device("cpu")))
        for name in arguments.models.split(","):
            for batch in map(int, arguments.batches.split(",")):
                rows += measure(name, batch, arguments)
                if arguments.json:
                    keep(arguments.json, machine, rows)
    show(rows)
    show_markdown(rows)
    print(f"\n{machine['processor']}, {arguments.threads} threads, torch {machine['versions']['torch']}")


if __name__ == "__main__":
    main()
