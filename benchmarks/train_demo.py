"""Train the bundle ``demo/seven-channels`` of the distribution zoo-weights on the embedded synthetic scenes.

    python benchmarks/train_demo.py    # about ten minutes on one core; the training run is kept in runs/demo

The bundle takes the paper's seven channels, as ``zoo stack`` writes them, so ``zoo stack`` and ``zoo map`` run from
end to end without labels and without a download. It has never seen a real landslide: every output carries the word
demo.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import zoo
from zoo.training.bundle import TrainerNotes
from zoo.training.recipes import get_recipe

REPOSITORY = Path(__file__).parents[1]
BUNDLE = REPOSITORY / "plugins" / "zoo-weights" / "src" / "zoo_weights" / "bundles" / "demo-seven-channels"
MODEL, WIDTHS = "unet", (16, 32, 64, 96, 128)
RECIPE = get_recipe("quick").changed(
    steps=600, batch_size=16, crop=64, lr=3e-3, ema=0.99, precision="fp32", time_limit=7200.0
)
DATA = {"region": "all"}
NOTES = TrainerNotes(
    name="demo/seven-channels",
    summary="A small U-Net that shows how zoo stack and zoo map work together. It knows synthetic landslides alone.",
    intended_use="Try the commands and test the software. Do not use its maps: it never saw a real landslide, and "
    "scores on synthetic scenes do not apply to real ones.",
    tried="Nothing else was tried: the bundle is a demonstration, and its accuracy does not matter.",
    limits=(
        "It was trained on images of a simulated sensor, with terrain that a model of erosion made.",
        "Its threshold was chosen on synthetic scenes and is arbitrary on real ones.",
    ),
    reproduce="python benchmarks/train_demo.py",
    licence="Apache-2.0",
)


def main() -> None:
    """Train the bundle, or keep a finished run, and write it with its card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder of the training run")
    parser.add_argument("--out", type=Path, default=BUNDLE, help="folder of the bundle")
    options = parser.parse_args()
    model = zoo.train(
        MODEL,
        "synthetic",
        recipe=RECIPE,
        options={"widths": WIDTHS},
        data_options=DATA,
        out=options.run,
        device="cpu",
        resume=True,
        progress=lambda stage, done, total: print(f"\r{stage} {done}/{total}   ", end="", flush=True),
    )
    model.bundle = replace(model.bundle, label="demo", notes=NOTES)
    model.save(options.out, half=True, overwrite=True)
    model.write_card(data="synthetic", data_options=DATA)
    print(f"\n{model}")


if __name__ == "__main__":
    main()
