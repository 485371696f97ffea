"""Decide which forms of `zoo.deploy` are worth keeping on this machine, in one interleaved run.

Each row is one model at one batch size and precision. "fastest peer" is the fastest of eager channels-last,
`torch.compile` with freezing, ONNX Runtime and OpenVINO. Our forms are built from `zoo.deploy`. A column "without X"
is our fused form without one part, so the ratio without/with is the gain of that part. A part stays if its form is 5
% faster than the peer on some model and leaving it out costs 5 % there. Weights are random. Other programs can only
add time, so the shortest of the interleaved rounds counts.

python benchmarks/forms.py [--models unet,...] [--batches 1,16] [--precisions fp32,bf16] [--rounds 7] [--json FILE]
python benchmarks/forms.py --table benchmarks/forms.json        # print the committed table
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

PEERS = ("eager channels-last", "torch.compile", "ONNX Runtime", "OpenVINO")
PARTS = ("MCSA", "averaged hybrid", "doubling")
REMOVED = ("upsampling", "dead taps")
"""Parts that gained too little; the committed table shows why."""
MODELS = ("unet", "enhanced_unet", "segnet", "deeplabv3plus", "mobilenetv2", "drs_unet", "model54_standin")


@contextmanager
def without(part: str) -> Iterator[None]:
    """Leave one part out of the fused form."""
    from zoo.deploy import forms

    patches: dict[str, tuple[str, Any]] = {
        "doubling": ("replace_doubling_blocks", lambda model, image: 0),
        "MCSA": ("FusedMCSA", lambda module: module),
    }
    if part not in patches:
        yield
        return
    name, replacement = patches[part]
    with mock.patch.object(forms, name, replacement):
        yield


def build_variants(name: str, images: Any, precision: Any) -> dict[str, Callable[[], Any]]:
    """Makers of all variants of one model, by label."""
    import torch
    from inference import build

    from zoo.deploy import folding
    from zoo.deploy.backends import OnnxRuntimeModule, OpenVinoModule
    from zoo.deploy.forms import ParallelForm, TorchForm, TorchOptions, choose_hybrid_forms, make_torch_form

    model = build(name)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def eager() -> Any:
        options = TorchOptions(precision, channels_last=True, fused=False)
        plain = copy.deepcopy(model).to(dtype=dtype).to(memory_format=torch.channels_last)
        return TorchForm(plain, options).eval()

    def compiled() -> Any:
        import torch._inductor.config as inductor

        inductor.freezing = True
        return torch.compile(eager(), dynamic=False)

    def fused(part: str = "") -> Any:
        with torch.no_grad():
            folded = folding.fold(model, images).model
            hybrids = {} if part == "averaged hybrid" else choose_hybrid_forms(folded, images, precision)
            with without(part):
                return make_torch_form(folded, images, TorchOptions(precision), hybrids)

    def folded() -> Any:
        with torch.no_grad():
            return make_torch_form(folding.fold(model, images).model, images, TorchOptions(precision, fused=False), {})

    def streams() -> Any:
        threads = torch.get_num_threads()
        return ParallelForm(fused(), streams=threads, threads=1, images=min(4, len(images) // threads))

    found: dict[str, Callable[[], Any]] = {"eager": lambda: model, PEERS[0]: eager, PEERS[1]: compiled}
    if precision == "fp32":
        found[PEERS[2]] = lambda: OnnxRuntimeModule(model, images, dynamic=False)
    found[PEERS[3]] = lambda: OpenVinoModule(model, images, precision=precision, dynamic=False)
    found |= {"folded": folded, "fused": fused}
    if len(images) > 1:
        found["streams"] = streams
    present = {type(module).__name__ for module in model.modules()}
    needs = {
        "MCSA": "MCSA",
        "averaged hybrid": "HybridConv2d",
        "doubling": "UnetDecoderBlock",
    }
    for part in PARTS:
        if needs[part] in present:
            found[f"without {part}"] = lambda part=part: fused(part)
    return found


def measure(name: str, batch: int, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Shortest seconds of every variant, timed in turns, and the largest deviation from the eager logits."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    images = torch.randn(batch, 7, arguments.size, arguments.size)
    variants: dict[str, Any] = {}
    expected = images
    deviation: dict[str, float] = {}
    with torch.inference_mode():
        for label, make in build_variants(name, images, precision).items():
            try:
                with torch.inference_mode(False), torch.no_grad():
                    variant = make()
                    logits = variant(images)
            except Exception as error:  # a peer that cannot run this model is left out, and said so
                reason = str(error).splitlines()[0][:120]
                print(f"{name}: {label} left out: {type(error).__name__}: {reason}", flush=True)
                continue
            expected = logits if label == "eager" else expected
            deviation[label] = float((logits - expected).abs().max() / expected.abs().max())
            variants[label] = variant
    times: dict[str, list[float]] = {label: [] for label in variants if label != "eager"}
    with torch.no_grad():
        for _ in range(arguments.rounds):
            for label, values in times.items():
                start = time.perf_counter()
                variants[label](images)
                values.append(time.perf_counter() - start)
    seconds = {label: min(values) for label, values in times.items()}
    row = {"model": name, "batch": batch, "precision": precision, "rounds": arguments.rounds}
    return {**row, "seconds": seconds, "deviation": deviation}


def show(kept: dict[str, Any]) -> None:
    """Print the table that decides."""
    parts = [f"without {part}" for part in (*PARTS, *REMOVED)]
    print("| model | batch | prec. | fastest peer | ms | folded | fused | streams |", *(f" {part} |" for part in parts))
    print("|---|---:|---|---|---:|" + "---:|" * (3 + len(parts)))
    for row in kept["rows"]:
        seconds = row["seconds"]
        peer = min((label for label in PEERS if label in seconds), key=seconds.__getitem__)
        cells = [f"`{row['model']}`", str(row["batch"]), row["precision"], peer, f"{1000 * seconds[peer]:.1f}"]
        cells += [
            f"{seconds[peer] / seconds[form]:.2f}" if form in seconds else "" for form in ("folded", "fused", "streams")
        ]
        cells += [f"{seconds[part] / seconds['fused']:.2f}" if part in seconds else "" for part in parts]
        print("| " + " | ".join(cells) + " |")
    machine = kept["machine"]
    print(f"\n{machine['processor']}, {machine['cores']} cores, torch {machine['versions']['torch']}")


def main() -> None:
    """Measure, or print a kept table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--precisions", default="fp32,bf16")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--table", type=Path, metavar="FILE", help="measure nothing; print the rows of FILE")
    arguments = parser.parse_args()
    if arguments.table:
        show(json.loads(arguments.table.read_text()))
        return
    import torch

    from zoo.schema import to_plain
    from zoo.training.compute import describe_environment

    kept: dict[str, Any] = {"machine": to_plain(describe_environment(torch.device("cpu"))), "rows": []}
    for precision in arguments.precisions.split(","):
        for name in arguments.models.split(","):
            for batch in map(int, arguments.batches.split(",")):
                kept["rows"].append(measure(name, batch, precision, arguments))
                print(json.dumps({k: round(v * 1000, 1) for k, v in kept["rows"][-1]["seconds"].items()}), flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps(kept, indent=1) + "\n")
    show(kept)


if __name__ == "__main__":
    main()
