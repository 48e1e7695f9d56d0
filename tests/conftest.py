"""What holds for every test."""

from __future__ import annotations

import logging

import pytest
import torch

# The networks of the tests are tiny: threads that wait for each other would cost many times what they compute.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_log_handler_outlives_its_stream() -> None:
    """Libraries bind handlers to the standard output of the moment, which pytest closes with the test: a later record
    would be answered with a traceback on standard error."""
    named = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    for logger in (logging.root, *named):
        for handler in list(logger.handlers):
            if getattr(getattr(handler, "stream", None), "closed", False):
                logger.removeHandler(handler)
