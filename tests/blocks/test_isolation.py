"""The blocks need torch and nothing else, so that anyone can take one."""

from __future__ import annotations

import subprocess
import sys

# What torch itself declares as its dependencies, and what it is made of.
PROGRAM = """
import sys

allowed = set(sys.stdlib_module_names) | {
    "torch", "torchgen", "functorch", "triton", "nvidia", "cuda", "typing_extensions", "filelock", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools", "pkg_resources", "_distutils_hack", "zoo",
}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed or (top == "zoo" and name != "zoo" and not name.startswith(("zoo.blocks", "zoo.errors"))):
            raise ModuleNotFoundError(f"{name} is refused", name=name)

sys.meta_path.insert(0, Refuse())
import warnings
warnings.simplefilter("ignore")
import torch
from zoo.blocks import MCSA
from zoo.blocks import *
print(tuple(MCSA(8)(HybridConv2d(7, 8)(torch.randn(1, 7, 16, 16))).shape))
"""


def test_blocks_import_torch_alone() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(1, 8, 16, 16)"
