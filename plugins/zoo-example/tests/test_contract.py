"""The contract suite over the plugin's model: all that a plugin needs for a test."""

from zoo.testing import contract_of

test_contract = contract_of("tiny_fcn")
