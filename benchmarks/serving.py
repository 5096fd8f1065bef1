"""A server under load: latency, requests per core, memory, stopping (extra [serve]).

One server process on this machine's own address, a few clients with kept connections,
histories of 50 items, lists of 20. Requests per second of the server's own processor
time do not depend on what else the machine does; latencies do. Its limit is the bare
program: ONNX Runtime on a history of 50 that is an array already.
"""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import _measure
import numpy as np
import psutil
import torch

from ddrm_pyg import DDRM
from ddrm_pyg.files import write_json
from ddrm_pyg.serving.engine import ITEMS, load_onnx
from ddrm_pyg.serving.export import export
from ddrm_pyg.serving.program import MeanEncode

DIM, HISTORY, K = 64, 50, 20
JSON = {"Content-Type": "application/json"}


class Server:
    """``ddrm-pyg serve`` in a process of its own."""

    def __init__(self, folder: Path) -> None:
        words = [sys.executable, "-m", "ddrm_pyg", "serve", str(folder), "--port", "0"]
        self.process = subprocess.Popen(
            [*words, "--drain", "3"], stderr=subprocess.PIPE, text=True
        )
        line = self.process.stderr.readline()
        self.port = int(line.split("http://127.0.0.1:")[1].split()[0])
        self.usage = psutil.Process(self.process.pid)
        while not self.is_ready():
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """What a balancer asks before it sends requests."""
        try:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def processor_seconds(self) -> float:
        """Processor time that it has had."""
        times = self.usage.cpu_times()
        return times.user + times.system


def ask(server: Server, count: int, num_items: int, seed: int) -> list[float]:
    """Seconds of some requests, one after the other."""
    draw = np.random.default_rng(seed)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=120)
    connection.connect()
    # http.client sends head and body apart: the second would wait for the first
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    seconds = []
    for _ in range(count):
        history = draw.integers(0, num_items, HISTORY).tolist()
        body = json.dumps({"history": history, "k": K})
        begin = time.perf_counter()
        connection.request("POST", "/recommend", body, JSON)
        answer = connection.getresponse()
        answer.read()
        seconds.append(time.perf_counter() - begin)
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}")
    return seconds


def measure(num_items: int, count: int, clients: int) -> dict[str, float]:
    """Load a server of so many items, then stop it under load."""
    torch.manual_seed(0)
    item_emb = torch.randn(num_items, DIM)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "export"
        export(
            out,
            MeanEncode(DDRM(DIM, (1000, 300, 1000)), item_emb, item_emb.mean(0)),
            item_ids=range(num_items),
            formats=["onnx"],
        )
        server = Server(out)
        ask(server, 20, num_items, 0)
        used, begin = server.processor_seconds(), time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            parts = pool.map(
                lambda seed: ask(server, count // clients, num_items, seed),
                range(clients),
            )
            seconds = np.array([one for part in parts for one in part])
        wall = time.perf_counter() - begin
        used = server.processor_seconds() - used
        memory = server.usage.memory_info().rss
        answered, lost = stop(server, num_items)
        bare = bare_seconds(out, num_items)
    rate = len(seconds) / used
    return {
        "p50_ms": round(1000 * float(np.median(seconds)), 2),
        "p99_ms": round(1000 * float(np.quantile(seconds, 0.99)), 2),
        "requests_per_second": round(len(seconds) / wall, 1),
        "requests_per_core_second": round(rate, 1),
        "bare_ms": round(1000 * bare, 3),
        "share": round(rate * bare, 3),
        "memory_mib": round(memory / 2**20),
        "answered_until_stopped": answered,
        "lost": lost,
    }


def bare_seconds(folder: Path, num_items: int, runs: int = 50) -> float:
    """Processor seconds of the program alone, the median of some runs."""
    program = load_onnx(folder / "recommend.onnx", 1)
    item_emb = np.load(folder / ITEMS, mmap_mode="r", allow_pickle=False)
    draw = np.random.default_rng(0)
    nothing = np.full((1, 1), num_items)
    seconds = []
    for _ in range(runs):
        history = draw.choice(num_items, (1, HISTORY), replace=False)
        begin = time.process_time()
        program(history, nothing, item_emb)
        seconds.append(time.process_time() - begin)
    return float(np.median(seconds))


def stop(server: Server, num_items: int) -> tuple[int, int]:
    """Stop it while four clients ask as a balancer lets them."""
    timer = threading.Timer(0.5, server.process.send_signal, [signal.SIGTERM])
    timer.start()

    def client(seed: int) -> tuple[int, int]:
        answered = lost = 0
        while server.is_ready():
            try:
                answered += len(ask(server, 1, num_items, seed))
            except (OSError, RuntimeError):
                lost += 1
        return answered, lost

    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(client, range(4)))
    server.process.wait(timeout=60)
    return sum(a for a, _ in counts), sum(lost for _, lost in counts)


def main() -> None:
    """Measure."""
    why = "ONNX Runtime serves on the CPU"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--items", type=int, nargs="+", help="sizes of catalogues")
    parser.add_argument("--requests", type=int, default=1000, help="per size (1000)")
    parser.add_argument("--clients", type=int, default=2, help="at a time (2)")
    args = parser.parse_args()
    _measure.choose(args)
    sizes = args.items or [1_500, 100_000, 1_000_000]
    results = {}
    for num_items in sizes:
        count = max(args.requests * 1_500 // (1_500 + num_items // 50), 60)
        results[num_items] = measure(num_items, count, args.clients)
        print(f"{num_items:>9,} items: {results[num_items]}", flush=True)
    record = {"history": HISTORY, "k": K, "clients": args.clients, "items": results}
    write_json(_measure.RESULTS / "serving.json", record)


if __name__ == "__main__":
    main()
