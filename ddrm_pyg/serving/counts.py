"""What a server has done, in the words of Prometheus."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds of the histogram of seconds."""


@dataclass
class Counts:
    """Counters of a server; every method may be called from any thread.

    Attributes:
        requests: Answers by path and status.
        buckets: Answers within each bound of seconds.
        seconds: All of them together.
        unknown: Ids of requests that the export does not know.
        reloads: Exports loaded after the first.
    """

    requests: Counter[tuple[str, int]] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0
    unknown: int = 0
    reloads: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, path: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        with self.lock:
            self.requests[path, status] += 1
            self.seconds += seconds
            for bound in _BUCKETS:
                self.buckets[bound] += seconds <= bound

    def text(self, num_items: int) -> str:
        """Lay out as Prometheus reads it, with the size of the catalogue."""
        with self.lock:
            total = sum(self.requests.values())
            lines = [
                "# TYPE ddrm_requests_total counter",
                *(
                    f'ddrm_requests_total{{path="{path}",status="{status}"}} {count}'
                    for (path, status), count in sorted(self.requests.items())
                ),
                "# TYPE ddrm_request_seconds histogram",
                *(
                    f'ddrm_request_seconds_bucket{{le="{bound}"}} {self.buckets[bound]}'
                    for bound in _BUCKETS
                ),
                f'ddrm_request_seconds_bucket{{le="+Inf"}} {total}',
                f"ddrm_request_seconds_sum {self.seconds:.6f}",
                f"ddrm_request_seconds_count {total}",
                "# TYPE ddrm_unknown_ids_total counter",
                f"ddrm_unknown_ids_total {self.unknown}",
                "# TYPE ddrm_reloads_total counter",
                f"ddrm_reloads_total {self.reloads}",
                "# TYPE ddrm_items gauge",
                f"ddrm_items {num_items}",
            ]
        return "\n".join(lines) + "\n"
