"""The contract suite over the plugin's model: all that a plugin needs for a test."""

from zoo.testing import model_contract

test_contract = model_contract("tiny_fcn")
