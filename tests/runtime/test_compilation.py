"""Compilations are logged before they begin, shown while they last, and counted once."""

import contextlib
import logging
import time

import jax
import jax.numpy as jnp
import pytest

from mace_tp.runtime.compilation import Stopwatch, compiling, counted_compilations, shown_compilations


def test_time_of_a_compilation_is_counted_by_every_clock_that_runs():
    with counted_compilations() as outer:
        with compiling("one"):
            time.sleep(0.02)
        with counted_compilations() as inner, compiling("another"):
            time.sleep(0.02)
    with compiling("a third"):
        time.sleep(0.02)

    assert 0.02 <= inner.seconds < outer.seconds and outer.seconds < 1


def test_a_compilation_within_another_is_counted_and_told_once(caplog):
    with caplog.at_level(logging.INFO, "mace_tp"), counted_compilations() as clock:
        start = time.monotonic()
        with compiling("the whole"), compiling("a part"):
            time.sleep(0.02)
        whole = time.monotonic() - start

    assert 0.02 <= clock.seconds <= whole
    assert [record.message.partition(";")[0] for record in caplog.records] == ["compiling the whole"]


def test_a_compilation_that_fails_is_counted_too():
    with counted_compilations() as clock, pytest.raises(ValueError), compiling("what cannot be"):
        time.sleep(0.02)
        raise ValueError

    assert clock.seconds >= 0.02
    with counted_compilations() as clock, compiling("the next"):
        time.sleep(0.02)
    assert clock.seconds >= 0.02, "it is not taken for a part of the one that failed"


def test_programs_that_jax_compiles_unasked_are_counted():
    with counted_compilations() as clock:
        jax.jit(lambda x: jnp.tan(x) + 17.5)(jnp.arange(23.0)).block_until_ready()

    assert clock.seconds > 0


def test_a_stopwatch_stands_still_while_something_is_compiled():
    with counted_compilations() as clock:
        with compiling("before it"):
            time.sleep(0.02)
        watch = Stopwatch(clock, before=100.0)
        with compiling("meanwhile"):
            time.sleep(0.5)
        time.sleep(0.02)

    assert 100.02 <= watch.seconds() < 100.4


def test_the_display_is_open_while_something_is_compiled():
    seen = []

    @contextlib.contextmanager
    def display():
        seen.append("begins")
        yield
        seen.append("ends")

    with shown_compilations(display), compiling("one"):
        seen.append("compiles")
    with compiling("another"):
        seen.append("without")

    assert seen == ["begins", "compiles", "ends", "without"]


@pytest.fixture
def without_cache():
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


def test_the_line_names_the_cache(caplog):
    with caplog.at_level(logging.INFO, "mace_tp"), compiling("the step"):
        pass

    assert caplog.messages == ["compiling the step; later runs find it in the cache"]


def test_the_line_names_no_cache_where_there_is_none(caplog, without_cache):
    with caplog.at_level(logging.INFO, "mace_tp"):
        with compiling("the step"):
            pass
        with compiling("the kernel", is_kept=True):
            pass

    assert caplog.messages == ["compiling the step", "compiling the kernel; later runs find it in the cache"]
