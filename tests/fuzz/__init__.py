"""Damaged inputs: a short round in the tests, a long one by ``python -m tests.fuzz``."""
