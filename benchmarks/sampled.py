"""What does it cost DDRM to learn from a sample of the items?

The loss from the past is a softmax over all items or, in large catalogues, over items
drawn for every batch, corrected for how likely each was drawn. Here small catalogues
are sampled as well, so that both can be had; the cells are those of the runner and go
on where they were stopped.
"""

import json
from pathlib import Path

import _measure
import numpy as np
from future import METRICS, past

from ddrm_pyg.experiments.cells import Cell
from ddrm_pyg.experiments.runner import Runner
from ddrm_pyg.transforms import TemporalSplit

SHARES = (1, 2, 4, 8)
"""One in so many items is drawn."""


def main():
    """Run all cells, print and keep them."""
    parser = _measure.options(__doc__, rounds=False)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    rows = []
    for source in options.data:
        name, data = _measure.load_thinned(source, TemporalSplit())
        device, progress = options.device, False
        runner = Runner(data, options.out / name, device=device, progress=progress)
        base = Cell("svd", model={"embedding_dim": options.width})
        for share in SHARES:
            size = None if share == 1 else data["item"].num_nodes // share
            changed = {} if size is None else {"num_sampled": size}
            cells = [past(base, seed, **changed) for seed in range(options.seeds)]
            results = [runner.run(cell) for cell in cells]
            row = {
                "data": name,
                "sampled": size or data["item"].num_nodes,
                "items": data["item"].num_nodes,
                "val recall@20": [round(r.val["recall@20"], 5) for r in results],
                "test": {
                    m: [round(float(r.test[m]), 5) for r in results] for m in METRICS
                },
                "seconds": [round(r.seconds, 1) for r in results],
            }
            rows.append(row)
            means = [np.mean(row["test"][m]) for m in METRICS]
            shown = "  ".join(
                f"{x:.4f}" for x in [np.mean(row["val recall@20"]), *means]
            )
            print(
                f"{name:20} {row['sampled']:6} of {row['items']:6} {shown}", flush=True
            )
            path = _measure.RESULTS / f"sampled{_measure.suffix_of(options)}.json"
            path.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
