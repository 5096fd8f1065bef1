"""What the benchmarks share: options, data, alternating rounds, the report."""

from __future__ import annotations

import os

# before torch starts its workers: spinning ones starve whatever else is running
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
import torch_geometric
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets import SyntheticInteractions, load_interactions
from ddrm_pyg.files import atomic_path
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.transforms import KCore, TemporalSplit

mpl.use("Agg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "ml-1m": (5_949, 3_494, 618_297),
    "gowalla": (29_858, 40_981, 1_027_370),
    "yelp": (54_574, 77_405, 1_471_675),
    "amazon-book": (108_822, 178_181, 3_145_223),
}
"""Users, items and interactions of the data sets whose size a world can have."""
ML1M_TRAIN = 429_993
WARM_UP = 1
COPY, PRODUCT = "bare copy", "bare product"
"""The sides of :func:`bare_sides`."""


class Least(NamedTuple):
    """What a side must at least do, read off its sizes.

    Attributes:
        bytes: Bytes that it must read and write.
        flop: Floating-point operations.
    """

    bytes: float = 0.0
    flop: float = 0.0


Limit = Least | str
"""What a side must at least do, or another side that does no more than that."""

BARE = {"cpu": Least(1 << 28, 2 * 1024**3), "cuda": Least(1 << 31, 2 * 8192**3)}
"""What the bare copy and the bare product do: enough to leave the caches, and to keep
all units busy."""


class Setting(NamedTuple):
    """What a benchmark runs on.

    Attributes:
        data: Interactions with held-out pairs.
        graph: Its train interactions.
        source: What the data is called in the report.
        threads: Threads torch may use.
        runs: Timed rounds.
        device: Where the sides run.
        suffix: What sets results of other sizes and devices apart.
    """

    data: HeteroData
    graph: InteractionGraph
    source: str
    threads: int
    runs: int
    device: str = "cpu"
    suffix: str = ""


def options(
    description: str | None, *, rounds: bool = True, on_cpu: str = ""
) -> argparse.ArgumentParser:
    """Make a parser with the options that all benchmarks share.

    Args:
        description: The benchmark's docstring.
        rounds: Whether it times rounds.
        on_cpu: Why it runs on the CPU alone, if it does.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, help="torch threads (torch's default)")
    if rounds:
        parser.add_argument("--runs", type=int, default=9, help="timed rounds (9)")
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; without it, it says so and ends"
    )
    parser.set_defaults(on_cpu=on_cpu)
    return parser


def choose(args: argparse.Namespace) -> None:
    """Set torch's threads and seed; say so and end where the device cannot be used."""
    if args.device != "cpu" and args.on_cpu:
        print(f"skipped: {args.on_cpu}")
        sys.exit()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"skipped: '{args.device}' is not available here")
        sys.exit()
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)


def suffix_of(args: argparse.Namespace) -> str:
    """What sets the results of other devices apart."""
    return "" if args.device == "cpu" else f"_{args.device}"


def prepare(description: str | None) -> Setting:
    """Read the options, and the data."""
    return setting_of(data_options(description).parse_args())


def data_options(
    description: str | None, *, on_cpu: str = ""
) -> argparse.ArgumentParser:
    """Make a parser with these, and those that say what the data are."""
    parser = options(description, on_cpu=on_cpu)
    parser.add_argument("--data", help="what load_interactions reads (synthetic)")
    parser.add_argument(
        "--size", choices=SIZES, default="ml-1m", help="of the synthetic world (ml-1m)"
    )
    return parser


def setting_of(args: argparse.Namespace) -> Setting:
    """Load the data that the options ask for."""
    choose(args)
    suffix = suffix_of(args)
    if args.data is None:
        data, source = world(args.size), f"synthetic, the size of {args.size}"
        suffix += "" if args.size == "ml-1m" else f"_{args.size}"
    else:
        path = Path(args.data)
        data, source = load_interactions(path), f"{path.parent.name}/{path.name}"
    graph = InteractionGraph.from_data(data).to(args.device)
    threads = torch.get_num_threads()
    return Setting(data, graph, source, threads, args.runs, args.device, suffix)


def world(size: str) -> HeteroData:
    """Make a world of a data set's size; of ML-1M's, with exactly its train pairs."""
    data = SyntheticInteractions(*SIZES[size])[0]
    if size != "ml-1m":
        return data
    num_edges = data[EDGE].edge_index.size(1)
    order = torch.randperm(num_edges, generator=torch.Generator().manual_seed(0))
    kept = order[:ML1M_TRAIN].sort().values
    for name in ("edge_index", "edge_time", "edge_rating", "edge_is_noise"):
        data[EDGE][name] = data[EDGE][name][..., kept]
    return data


def load_thinned(
    source: str | Path, split: TemporalSplit | None = None
) -> tuple[str, HeteroData]:
    """Read interactions; a table is thinned to its 5-core, and split.

    Returns:
        The name of the folder that the source lies in, and the data.
    """
    path = Path(source)
    if path.is_dir():
        return path.parent.name, load_interactions(path)
    names = path.read_text().partition("\n")[0].split(",")
    columns = dict(zip(("user", "item"), names, strict=False))
    data = KCore(5)(load_interactions(path, **columns, liked_from=4, split=False))
    return path.parent.name, split(data) if split else data


def alternate(
    sides: Mapping[str, Callable[[], Any]], runs: int, warm_up: int = WARM_UP
) -> dict[str, np.ndarray]:
    """Time all sides once per round, each round starting with another side.

    Seconds are those of :func:`clock_of`.

    Args:
        sides: What to run, by name.
        runs: Timed rounds.
        warm_up: Rounds before them; 0 where all sides have been run already.

    Returns:
        Seconds ``[runs]`` by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    clock = clock_of(torch.get_num_threads())
    for turn in range(warm_up + runs):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            finish()
            begin = clock()
            sides[name]()
            finish()
            seconds[name].append(clock() - begin)
    return {name: np.array(values[warm_up:]) for name, values in seconds.items()}


def clock_of(threads: int) -> Callable[[], float]:
    """Choose a clock.

    With one thread and no GPU it is the processor's, which depends less on what else
    the machine does; elsewhere the wall's.
    """
    alone = threads == 1 and not torch.cuda.is_available()
    return time.process_time if alone else time.perf_counter


def bare_sides(device: str) -> dict[str, Callable[[], Any]]:
    """Make a copy and a product of matrices, to be timed beside other sides.

    Their rates, in the same process and the same round, are the limits of all others.
    """
    bare = BARE[torch.device(device).type]
    source = torch.ones(int(bare.bytes) // 8, device=device)
    target = torch.empty_like(source)
    width = round((bare.flop / 2) ** (1 / 3))
    left, right = torch.randn(2, width, width, device=device)
    return {COPY: lambda: target.copy_(source), PRODUCT: lambda: left @ right}


def shares(
    limits: Mapping[str, Limit], seconds: Mapping[str, np.ndarray], device: str
) -> dict[str, dict[str, Any]]:
    """Tell how much of its limit each side reaches.

    A side cannot take less than its bytes at the rate of the bare copy, nor less than
    its operations at that of the bare product: the longer of the two is its limit,
    unless another side is.

    Args:
        limits: By name of the side.
        seconds: Of these sides, of those that limit them, and of :func:`bare_sides`
            where a :class:`Least` does.
        device: Where they ran.

    Returns:
        By side, what limits it, and the median over rounds of the limit over the
        side's time.
    """
    result = {}
    for side, limit in limits.items():
        times, what = _limit(limit, seconds, device)
        share = float(np.median(times / seconds[side]))
        result[side] = {"limit": what, "share": round(share, 3)}
    return result


def _limit(
    limit: Limit, seconds: Mapping[str, np.ndarray], device: str
) -> tuple[np.ndarray, str]:
    """Seconds of a limit in every round, and what it is called."""
    if isinstance(limit, str):
        return seconds[limit], limit
    bare = BARE[torch.device(device).type]
    copied = limit.bytes / bare.bytes * seconds[COPY]
    multiplied = limit.flop / bare.flop * seconds[PRODUCT]
    if np.median(copied) > np.median(multiplied):
        return copied, f"copy of {limit.bytes / 1e6:,.3g} MB"
    return multiplied, f"products of {limit.flop / 1e9:,.3g} GFLOP"


def shares_once(
    limits: Mapping[str, Limit], seconds: Mapping[str, float], device: str = "cpu"
) -> dict[str, dict[str, Any]]:
    """Tell the same of sides that ran once; the bare ones run here."""
    once = {side: np.array([value]) for side, value in seconds.items()}
    result = shares(limits, alternate(bare_sides(device), 5) | once, device)
    for side, values in result.items():
        print(f"{side}: {said(values)}")
    return result


def least_seconds(stages: Sequence[Least], device: str = "cpu") -> float:
    """Seconds that stages must at least take, one after the other."""
    bare = alternate(bare_sides(device), 5)
    return sum(float(np.median(_limit(stage, bare, device)[0])) for stage in stages)


def least_of_steps(model: torch.nn.Module, steps: float, *, flop: float = 0.0) -> Least:
    """Count what some steps of Adam must do, all gradients dense.

    Adam reads a number, its gradient and its two moments, and writes all but the
    gradient, which the backward pass has written.

    Args:
        model: What is trained.
        steps: How many.
        flop: Operations of a step, forward and backward.
    """
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return Least(steps * 8 * 4 * numbers, steps * flop)


def flop_of_row(model: torch.nn.Module) -> float:
    """Operations of a row in all layers, forward and for the gradients of both sides.

    Args:
        model: Two-dimensional parameters are layers that every row goes through.
    """
    return 6 * sum(p.numel() for p in model.parameters() if p.dim() == 2)


def said(values: Mapping[str, Any]) -> str:
    """Put a share of :func:`shares` into words."""
    return "{share:.0%} of the limit, {limit}".format(**values)


def finish() -> None:
    """Wait for what a GPU has still to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def report(
    name: str,
    title: str,
    setting: Setting,
    seconds: Mapping[str, np.ndarray],
    *,
    reference: str,
    ours: Sequence[str],
    limits: Mapping[str, Limit] | None = None,
    least: Mapping[str, Least] | None = None,
    **facts: Any,
) -> dict[str, float]:
    """Print a table and a JSON line; keep the line and a plot in results/.

    Args:
        name: File name in results/.
        title: Heading of table and plot.
        setting: What was run on.
        seconds: As :func:`alternate` returns it.
        reference: The side that all are compared with.
        ours: The sides that this package stands for, coloured in the plot.
        limits: As :func:`shares` takes them.
        least: What sides whose limit is a bare call must at least do.
        facts: More for the JSON line.

    Returns:
        Median over rounds of each side's time over the reference's of that round.
    """
    ratio = {
        side: float(np.median(t / seconds[reference])) for side, t in seconds.items()
    }
    median = {side: float(np.median(t)) * 1e3 for side, t in seconds.items()}
    reached = shares(limits, seconds, setting.device) if limits else {}
    bare = shares(least, seconds, setting.device) if least else {}
    width = max(map(len, seconds))
    print(f"{title}\n{setting.source}: {setting.graph}")
    print(f"{setting.threads} threads, median and quartiles of {setting.runs} rounds\n")
    print(f"{'':{width}}  {'ms':>10}  {'quartiles':>19}  {'ratio':>8}")
    for side, times in seconds.items():
        low, high = np.quantile(times, (0.25, 0.75)) * 1e3
        quartiles = f"{low:.2f} - {high:.2f}"
        limit = said(reached[side]) if side in reached else ""
        print(
            f"{side:{width}}  {median[side]:10.2f}  {quartiles:>19}  {ratio[side]:8.2f}"
            f"  {limit}".rstrip()
        )
    for side, values in bare.items():
        print(f"{side}: {said(values)}")
    record = {
        "benchmark": name,
        "data": setting.source,
        "num_users": setting.graph.num_users,
        "num_items": setting.graph.num_items,
        "num_edges": setting.graph.num_edges,
        "threads": setting.threads,
        "runs": setting.runs,
        "device": device_name(setting.device),
        "torch": torch.__version__,
        "torch_geometric": torch_geometric.__version__,
        "reference": reference,
        "median_ms": {side: round(value, 3) for side, value in median.items()},
        "ratio": {side: round(value, 3) for side, value in ratio.items()},
        **({"limits": reached} if reached else {}),
        **({"least": bare} if bare else {}),
        **facts,
    }
    print("\n" + json.dumps(record))
    keep(f"{name}{setting.suffix}", record)
    drawn = {side: t for side, t in seconds.items() if side not in (COPY, PRODUCT)}
    _plot(f"{name}{setting.suffix}", title, setting, drawn, ratio, ours)
    return ratio


def keep(name: str, record: Mapping[str, Any]) -> None:
    """Keep a result in results/."""
    RESULTS.mkdir(exist_ok=True)
    with atomic_path(RESULTS / f"{name}.json") as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n")


def device_name(device: str) -> str:
    """Name the card, if it is one."""
    return torch.cuda.get_device_name() if device.startswith("cuda") else device


def _plot(
    name: str,
    title: str,
    setting: Setting,
    seconds: Mapping[str, np.ndarray],
    ratio: Mapping[str, float],
    ours: Sequence[str],
) -> None:
    low, mid, high = (
        np.array([np.quantile(t, q) * 1e3 for t in seconds.values()])
        for q in (0.25, 0.5, 0.75)
    )
    figure, axes = plt.subplots(
        figsize=(7, 1.2 + 0.4 * len(seconds)), layout="constrained"
    )
    bars = axes.barh(
        list(seconds),
        mid,
        xerr=(mid - low, high - mid),
        color=["#2a6f97" if side in ours else "#adb5bd" for side in seconds],
        error_kw={"elinewidth": 0.8, "ecolor": "#495057"},
    )
    labels = [
        f"{value:,.{1 if value < 100 else 0}f} ms ({ratio[side]:.2f}x)"
        for side, value in zip(seconds, mid, strict=True)
    ]
    axes.bar_label(bars, labels, padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35 * high.max())
    axes.set_xlabel(
        f"ms, median and quartiles of {setting.runs} rounds, "
        f"{setting.threads} threads; {setting.source}",
        fontsize=8,
    )
    axes.set_title(title, loc="left", fontsize=10)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    RESULTS.mkdir(exist_ok=True)
    with atomic_path(RESULTS / f"{name}.png") as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
