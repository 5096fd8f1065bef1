"""ItemKNN against the same in plain SciPy: fitting, and lists for all users.

The other side multiplies SciPy's sparse matrices and picks the nearest row by row; its
lists are of 500 users at a time. Similarities are compared first and must agree. Where
the library implicit is installed, its cosine is a third side. The limit is the sparse
product alone, by SciPy: of all users' rows, and of these with the neighbours; beside it
stands what its operations would take as dense products. With --k all nothing is left
out; with --memory only ours is run, once, and its peak memory is measured.
"""

import itertools
import json
import time
from importlib.util import find_spec

import _measure  # first: it sets what torch's workers do
import numpy as np
import torch
from scipy.sparse import csr_array, csr_matrix

from ddrm_pyg.experiments.memory import PeakMemory
from ddrm_pyg.graph.interaction_graph import InteractionGraph
from ddrm_pyg.nn.models import ItemKNN
from ddrm_pyg.ranking import recommend

LENGTH, USERS = 20, 500
BARE, OURS = "bare sparse product", ("ItemKNN", "recommend")


def main():
    """Measure."""
    parser = _measure.data_options(__doc__, on_cpu="neighbours are counted on the CPU")
    parser.add_argument("--k", type=neighbours, default=100, help="neighbours (100)")
    parser.add_argument("--memory", action="store_true", help="peak memory, ours alone")
    args = parser.parse_args()
    setting = _measure.setting_of(args)
    if args.memory:
        measure_memory(args, setting)
    else:
        compare(args, setting)


def neighbours(text):
    """How many of them, None for all."""
    return None if text == "all" else int(text)


def compare(args, setting):
    """Time fitting and lists, ours and plain ones."""
    graph = setting.graph.without_repeats()
    rows = as_scipy(graph)
    most = args.k or graph.num_items
    scorer, plain = ItemKNN(args.k).scorer(graph), nearest(rows, most)
    matrix = scorer.matrix if args.k else scorer.matrix.to_sparse_csr()
    check(matrix, plain)
    users = torch.arange(graph.num_users)

    def fresh():  # nothing sorted yet, as for the other side
        return InteractionGraph(graph.edge_index, graph.num_users, graph.num_items)

    tables = {
        "fit": {
            "ItemKNN": lambda: ItemKNN(args.k).scorer(fresh()),
            "plain SciPy": lambda: nearest(as_scipy(graph), most),
            BARE: lambda: rows.T.tocsr() @ rows,
        },
        "lists": {
            "recommend": lambda: recommend(scorer, users, k=LENGTH, exclude=graph),
            "plain SciPy": lambda: lists(rows, plain),
            BARE: lambda: products(rows, plain),
        },
    }
    if find_spec("implicit"):
        tables["fit"]["implicit"] = lambda: cosine(as_scipy(graph), most)
        others = cosine(rows, most)
        tables["lists"]["implicit"] = lambda: others.recommend(
            users.numpy(), csr_matrix(rows), N=LENGTH
        )
    degree, row = graph.degree("user").double(), matrix.crow_indices().diff()
    least = {
        "ItemKNN": _measure.Least(12 * row.sum().item(), 2 * (degree @ degree).item()),
        "recommend": _measure.Least(flop=2 * row[graph.edge_index[1]].sum().item()),
    }
    for name, sides in tables.items():
        _measure.report(
            f"neighbours_{name}{named(args, setting)}",
            f"Item-kNN, {args.k or 'all'} neighbours: {name}",
            setting,
            _measure.alternate(sides | _measure.bare_sides("cpu"), setting.runs),
            reference="plain SciPy",
            ours=OURS,
            limits={side: BARE for side in OURS if side in sides},
            least={side: least[side] for side in OURS if side in sides},
            k=args.k,
        )


def named(args, setting):
    """What sets results apart: folder and file of data, neighbours, threads."""
    source = setting.source.partition(".")[0].replace("/", "-").removeprefix("data-")
    source = "" if args.data is None else f"_{source}"
    threads = "" if setting.threads == 1 else f"_threads{setting.threads}"
    return f"{source}_k{args.k or 'all'}{threads}"


def as_scipy(graph):
    """Train rows as SciPy has them."""
    user, item = graph.edge_index.numpy()
    value = np.ones(len(user), dtype=np.float32)
    return csr_array((value, (user, item)), shape=(graph.num_users, graph.num_items))


def nearest(rows, k):
    """Cosines of items, the k largest of each."""
    size = np.sqrt(np.maximum(rows.sum(0), 1), dtype=np.float32)
    counts = (rows.T.tocsr() @ rows).tocsr()
    counts.data /= np.repeat(size, np.diff(counts.indptr)) * size[counts.indices]
    counts.setdiag(0)
    pointer, kept = counts.indptr, np.ones(counts.nnz, dtype=bool)
    for start, stop in itertools.pairwise(pointer):
        if stop - start > k:
            kept[start + counts.data[start:stop].argpartition(-k)[:-k]] = False
    counts.data[~kept] = 0
    counts.eliminate_zeros()
    return counts.T.tocsr()


def cosine(rows, k):
    """The same by implicit; one that is already listed is left out by default."""
    from implicit.nearest_neighbours import CosineRecommender

    model = CosineRecommender(K=k, num_threads=torch.get_num_threads())
    model.fit(csr_matrix(rows), show_progress=False)
    return model


def lists(rows, similar):
    """The best unseen items of all users."""
    best = []
    for start in range(0, rows.shape[0], USERS):
        part = rows[start : start + USERS]
        scores = (part @ similar).toarray()
        scores[part.nonzero()] = -np.inf
        top = np.argpartition(scores, -LENGTH, axis=1)[:, -LENGTH:]
        order = np.take_along_axis(scores, top, 1).argsort(1)[:, ::-1]
        best.append(np.take_along_axis(top, order, 1))
    return np.concatenate(best)


def products(rows, similar):
    """The scores of all users, and nothing done with them."""
    for start in range(0, rows.shape[0], USERS):
        rows[start : start + USERS] @ similar


def check(ours, plain):
    """Compare the values kept for every item: ties may keep others."""
    for one, other in ((ours.values().numpy(), plain.data),):
        np.testing.assert_allclose(np.sort(one), np.sort(other), rtol=1e-5)


def measure_memory(args, setting):
    """Fit once and list once, and keep the peak."""
    graph = setting.graph
    begin = time.perf_counter()
    with PeakMemory() as fitting:
        scorer = ItemKNN(args.k).scorer(graph)
    fitted = time.perf_counter()
    with PeakMemory() as listing:
        recommend(scorer, torch.arange(graph.num_users), k=LENGTH, exclude=graph)
    record = {
        "benchmark": "neighbours_memory",
        "data": setting.source,
        "k": args.k,
        "threads": setting.threads,
        "seconds": {
            "fit": round(fitted - begin, 1),
            "lists": round(time.perf_counter() - fitted, 1),
        },
        "peak_bytes": {"fit": fitting.bytes, "lists": listing.bytes},
    }
    print(json.dumps(record))
    _measure.keep(f"neighbours_memory{named(args, setting)}{setting.suffix}", record)


if __name__ == "__main__":
    main()
