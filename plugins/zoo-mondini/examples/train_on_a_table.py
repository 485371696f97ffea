"""Train on a synthetic table of rainfall histories and slopes, and measure how much the rain adds.

Use it to check the software; the figures say nothing about real landslides.
Run it with: python plugins/zoo-mondini/examples/train_on_a_table.py
"""

from __future__ import annotations

import numpy as np
from zoo_mondini.estimator import MondiniClassifier
from zoo_mondini.synthetic import make_histories

from zoo.risk.scores import auc

table = make_histories(rows=4000, seed=2)
train, test = table[:3000], table[3000:]
truth = test["landslide"].to_numpy()

model = MondiniClassifier().fit(train, train["landslide"])
probability = model.predict_proba(test)[:, 1]

rain = [name for name in table if str(name).startswith("P_t-")]
elsewhere = test.copy()
elsewhere[rain] = test[rain].sample(frac=1, random_state=0).to_numpy()

print(f"{len(train)} rows to learn from, {len(test)} to test on, {truth.mean():.1%} of them landslides")
print(f"half of the mask at {model.slope_threshold_:.1f} degrees, {model.steps_} steps")
print("                          AUC   Brier")
for name, prediction in (
    ("true probability", test["probability"].to_numpy()),
    ("rain x slope mask", probability),
    ("slope alone", test["slope"].to_numpy() / 90),
    ("rain of other places", model.predict_proba(elsewhere)[:, 1]),
    ("share of landslides", np.full(len(test), train["landslide"].mean())),
):
    brier = f"{np.mean((prediction - truth) ** 2):.4f}" if name != "slope alone" else "  -"
    print(f"{name:<24}{auc(truth, prediction):6.3f}  {brier}")
