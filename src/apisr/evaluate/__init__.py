"""Evaluation: scores of pictures, clips and models that somebody else can reproduce.

What is read, what is cut, which frames count, which weights ran and which seed was used are all part of the report.

    >>> from apisr.evaluate import evaluate, write_report
    >>> evaluation = evaluate("outputs", reference="truth")         # doctest: +SKIP
    >>> evaluation.report.summary["psnr"].mean                      # doctest: +SKIP
    >>> write_report(evaluation, "reports/mine")                    # doctest: +SKIP

The order of reading: `protocols` (what is measured, on what), `options`, `inputs` (files to pairs and frames), `models`
(who makes the outputs), `score` (one picture, one clip), `run` (all of them), `report` (the record), `compare` (two
records), `page` (the record for people), `tables` (the paper's tables). The metrics are in :mod:`apisr.metrics`.
"""

from __future__ import annotations

from apisr.evaluate.options import EvaluateOptions
from apisr.evaluate.report import Report, read_report
from apisr.evaluate.run import Evaluation, evaluate, write_report

__all__ = ["EvaluateOptions", "Evaluation", "Report", "evaluate", "read_report", "write_report"]
