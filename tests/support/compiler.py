"""Tests that need what builds the kernel: where there is no C++ compiler, users have none of it, either."""

import shutil

import pytest

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="there is no C++ compiler")
