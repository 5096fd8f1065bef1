"""Whether one ranking is better than another: paired tests over users."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from ddrm_pyg.ranking import Metrics

SIGNIFICANCE = 0.01
"""A p-value below counts, as in the paper's tables."""

SMALLEST_GAIN = 0.01
"""What is less than this share of the other's mean is no change worth telling."""


class PairedTest(NamedTuple):
    """Whether one ranking beats another on the same users.

    Attributes:
        difference: Mean over users of the difference.
        relative: The difference over the other's mean; NaN where that is 0.
        p_value: Two-sided paired t-test over users; 1 where all users differ by the
            same, if at all, so that there is no spread to test against.
        num_users: Users compared.
    """

    difference: float
    relative: float
    p_value: float
    num_users: int

    def counts(self, p_value: float | None = None) -> bool:
        """Whether the change is significant *and* large enough to be told.

        Any change is large enough where the other's mean is 0.

        Args:
            p_value: Corrected for the number of tests; the test's own if None.
        """
        return self.significant(p_value) and not abs(self.relative) < SMALLEST_GAIN

    def significant(self, p_value: float | None = None) -> bool:
        """Whether chance hardly explains the change, however small it is.

        Args:
            p_value: As for :meth:`counts`.
        """
        return (self.p_value if p_value is None else p_value) < SIGNIFICANCE

    def change(self) -> str:
        """Write the relative difference for people."""
        if math.isnan(self.relative):
            return "up from 0" if self.difference else "both 0"
        return f"{self.relative:+.1%}"

    def record(self) -> dict[str, Any]:
        """Flatten for JSON, which has no NaN: ``relative`` is None there."""
        relative = None if math.isnan(self.relative) else self.relative
        return {**self._asdict(), "relative": relative}


def mean_metrics(results: Sequence[Metrics]) -> Metrics:
    """Average several rankings user by user, as those of several seeds.

    Args:
        results: Metrics of the same users; at least one.

    Returns:
        The first's metrics, each the mean over the results.

    Raises:
        ValueError: None, or the users or the metrics differ.
    """
    if not results:
        raise ValueError("'results' must not be empty")
    first = results[0]
    if any(not torch.equal(first.user, other.user) for other in results):
        raise ValueError("'results' must be measured on the same users")
    if any(first.keys() != other.keys() for other in results):
        raise ValueError("'results' must have the same metrics")
    per_user = {
        name: torch.stack([other.per_user[name] for other in results]).mean(0)
        for name in first.per_user
    }
    overall = {
        name: float(np.mean([other[name] for other in results])) for name in first
    }
    return Metrics(first.user, per_user, overall)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests they were taken from.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (Scandinavian
    Journal of Statistics 6, 1979): the k-th smallest of m counts m - k + 1 times.

    Args:
        p_values: Of all tests that are looked at together.

    Returns:
        Adjusted values in the same order; those at most alpha are significant
        together at the level alpha.
    """
    order = np.argsort(p_values, kind="stable")
    factor = np.arange(len(p_values), 0, -1)
    grown = np.maximum.accumulate(np.asarray(p_values)[order] * factor)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(grown, 1.0)
    return adjusted.tolist()


def paired_test(ours: Metrics, theirs: Metrics, metric: str = "ndcg@20") -> PairedTest:
    """Compare two rankings user by user.

    Args:
        ours: One ranking's metrics.
        theirs: The other's, on the same split.
        metric: Which value to compare.

    Returns:
        The mean difference, absolute and relative to ``theirs``, with the p-value of a
        paired t-test.

    Raises:
        ValueError: The users differ, or one has no such metric.
    """
    if not torch.equal(ours.user, theirs.user):
        raise ValueError("'ours' and 'theirs' must be measured on the same users")
    metrics = ours.per_user.keys() & theirs.per_user.keys()
    if metric not in metrics:
        raise ValueError(
            f"'metric' must be one of {', '.join(sorted(metrics))} (got '{metric}')"
        )
    a = ours.per_user[metric].double().numpy()
    b = theirs.per_user[metric].double().numpy()
    change = a - b
    difference = float(np.mean(change))
    relative = difference / float(b.mean()) if b.mean() != 0 else float("nan")
    # the t statistic of equal changes would be that of float32's rounding
    equal = len(a) < 2 or float(np.ptp(change)) < 1e-6
    p_value = 1.0 if equal else float(stats.ttest_rel(a, b).pvalue)
    return PairedTest(difference, relative, p_value, len(a))
