"""How tastes and popularity move with time: real logs beside the synthetic world.

All clicks of all splits, liked or not. Three kinds of numbers; without movement the
first two are 1 and the third is 0:

- taste: how alike two clicks of a user are that lie 1, 10 or 50 clicks apart, over two
  clicks of the same user at random. Alike is the cosine of item vectors (truncated SVD,
  centred) that were made from the other half of the users.
- popularity: the likeness of what is clicked in two tenths of the log's time, 1, 3 or 9
  tenths apart: the cosine of the counts of two halves of the users, over that within a
  tenth. It needs times that all users share: a folder of lists has none.
- fame: how much better known the items of a user's first fifth are than those of the
  last, in standard deviations of the log of clicks.
"""

from pathlib import Path

import _measure
import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from ddrm_pyg.datasets import SyntheticInteractions
from ddrm_pyg.graph.interaction_graph import EDGE
from ddrm_pyg.transforms.core import SPLITS, get_block

LAGS, APART, TENTHS = (1, 2, 5, 10, 20, 50), (1, 2, 3, 5, 7, 9), 10
DIM, HALVES = 32, 5


def clicks(data):
    """All clicks as (user, item, time), each ``[E]``, by user and then by time."""
    held = [s for s in SPLITS if s == "train" or f"{s}_edge_label_index" in data[EDGE]]
    blocks = [get_block(data, split) for split in held]
    user, item = np.concatenate([block["index"].numpy() for block in blocks], axis=1)
    time = np.concatenate([block["time"].numpy() for block in blocks])
    order = np.lexsort((np.arange(len(user)), time, user))
    return user[order], item[order], time[order]


def item_vectors(user, item, num_items):
    """Centred item vectors ``[num_items, DIM]`` of length 1: what goes with what."""
    matrix = sp.csr_matrix((np.ones(len(user)), (user, item)))
    matrix.resize(matrix.shape[0], num_items)
    count = np.bincount(item, minlength=num_items)
    matrix = matrix @ sp.diags(np.maximum(count, 1) ** -0.5)
    _, value, right = svds(matrix, DIM, random_state=0)
    vector = unit(right.T * value)
    return unit(vector - count @ vector / count.sum())


def unit(vector):
    """Rows of length 1; a row of zeros stays one."""
    length = np.linalg.norm(vector, axis=1, keepdims=True)
    return np.divide(vector, length, out=np.zeros_like(vector), where=length > 1e-9)


def taste(user, item, rng):
    """Likeness of clicks some lags apart over that of any two of the same users."""
    alike = np.zeros((3, len(LAGS)))
    for _ in range(HALVES):
        half = rng.random(user.max() + 1) < 0.5
        for side in (half, ~half):
            made = side[user]
            vector = item_vectors(user[made], item[made], item.max() + 1)
            measured = (user[~made], vector[item[~made]])
            alike += np.array([likeness(*measured, lag, rng) for lag in LAGS]).T
    apart, same_user, anyone = alike
    return (apart - anyone) / (same_user - anyone)


def likeness(user, vector, lag, rng):
    """Mean cosine of clicks a lag apart, of two of the same users, of any two."""
    count = np.bincount(user)
    first = np.flatnonzero(user[:-lag] == user[lag:])
    begin = (count.cumsum() - count)[user[first]]
    size = count[user[first]]
    one, other = begin + (rng.random((2, len(first))) * size).astype(int)
    differ = one != other
    pairs = (
        (first, first + lag),
        (one[differ], other[differ]),
        rng.integers(len(user), size=(2, len(first))),
    )
    return [float((vector[a] * vector[b]).sum(1).mean()) for a, b in pairs]


def popularity(user, item, time, rng):
    """Likeness of what is clicked in two tenths of the time, some tenths apart."""
    tenth = np.empty(len(time), dtype=int)
    order = time.argsort(kind="stable")
    tenth[order] = np.arange(len(time)) * TENTHS // len(time)
    kept = np.zeros(len(APART))
    for _ in range(HALVES):
        half = (rng.random(user.max() + 1) < 0.5).astype(int)
        count = np.zeros((2, TENTHS, item.max() + 1))
        np.add.at(count, (half[user], tenth, item), 1)
        product = count[0] @ count[1].T
        product = product + product.T
        scale = np.sqrt(product.diagonal())
        cosine = product / scale / scale[:, None]
        kept += [cosine.diagonal(apart).mean() for apart in APART]
    return kept / HALVES


def fame(user, item):
    """How much better known a user's first items are than the last."""
    count = np.bincount(user)
    place = np.arange(len(user)) - (count.cumsum() - count)[user]
    place = (place + 0.5) / count[user]
    clicks = np.log(np.bincount(item)[item])
    step = clicks[place < 0.2].mean() - clicks[place >= 0.8].mean()
    return float(step / clicks.std())


def measure(user, item, time, absolute):
    """All numbers of a log."""
    rng = np.random.default_rng(0)
    row = {
        "clicks": len(user),
        "taste": dict(zip(LAGS, taste(user, item, rng).round(2).tolist(), strict=True)),
        "fame": round(fame(user, item), 2),
    }
    if absolute:
        moved = popularity(user, item, time, rng).round(2).tolist()
        row["popularity"] = dict(zip(APART, moved, strict=True))
    return row


def main():
    """Measure, print and keep."""
    parser = _measure.options(__doc__, rounds=False, on_cpu="SciPy counts on the CPU")
    parser.add_argument("--data", nargs="+", required=True)
    args = parser.parse_args()
    _measure.choose(args)
    rows = {}
    for source in args.data:
        name, data = _measure.load_thinned(source)
        rows[name] = measure(*clicks(data), absolute=not Path(source).is_dir())
        print(name, rows[name], flush=True)
    for name, moving in (("synthetic", True), ("synthetic, still", False)):
        data = SyntheticInteractions(moving=moving)[0]
        rows[name] = measure(*clicks(data), absolute=True)
        print(name, rows[name], flush=True)
    _measure.keep("movement", {"benchmark": "movement", "rows": rows})
    draw(rows)


def draw(rows):
    """Taste over clicks and popularity over time, a line for each log."""
    figure, panels = _measure.plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axes, kind in zip(panels, ("taste", "popularity"), strict=True):
        for name, row in rows.items():
            points = row.get(kind, {})
            ours = name.startswith("synthetic")
            style = {"color": "black"} if ours else {}
            style["linestyle"] = "--" if "still" in name else "-"
            axes.plot(
                list(points), list(points.values()), "o", ms=3, label=name, **style
            )
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set(xscale="log", xlabel="clicks apart", title="taste: likeness kept")
    panels[1].set(xlabel="tenths of the time apart", title="popularity: likeness kept")
    panels[0].legend(frameon=False, fontsize=8)
    figure.savefig(_measure.RESULTS / "movement.png", dpi=110)


if __name__ == "__main__":
    main()
