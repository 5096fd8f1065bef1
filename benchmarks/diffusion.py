"""What does the diffusion add to one pass, where DDRM is trained from the past?

Every way of training and sampling from the same starts, on wide closed-form embeddings;
validation Recall@20 picks the epoch, and the way. ``one pass`` restores the history's
start noised as published and generates from it without noise. The others: more noise
in training; several passes of the walk; a training that covers the walk, half of whose
inputs are what an earlier pass would hand over (self-conditioning on its own
predictions); a bridge whose steps lie near the start (I2SB, Liu et al., ICML 2023:
x_t between target and start, walked back along the deterministic posterior).
"""

import json
import time
from functools import partial

import _measure
import torch

from ddrm_pyg import DDRM, DDRMRecommender, evaluate, fit
from ddrm_pyg.graph.interaction_graph import EDGE, InteractionGraph
from ddrm_pyg.nn.models import SVD
from ddrm_pyg.transforms import TemporalSplit

METRICS = ("recall@10", "recall@20", "ndcg@10", "ndcg@20")
PLAIN = {
    "hidden_dims": (600,),
    "activation": "tanh",
    "hidden_dropout": 0.5,
    "denoise_user": False,
}


class Covering(DDRM):
    """Learns from what its own walk hands over, for half of the rows."""

    def restore(self, start_emb, cond, *, generator=None):
        """Replace half of the inputs by one step back along the walk."""
        self._warn_untrained = False
        t, _ = self._draw_steps(start_emb, generator)
        last = torch.full_like(t, self.num_train_timesteps - 1)
        first = self._reconstruct(self.item_denoiser, start_emb, cond, last, generator)
        with torch.no_grad():
            share = (t.float() / last).unsqueeze(1)
            handed = (1 - share) * first + share * start_emb
            own = torch.rand(len(t), 1, generator=generator) < 0.5
        return self._reconstruct(
            self.item_denoiser, torch.where(own, handed, start_emb), cond, t, generator
        )


class Bridge(DDRM):
    """A bridge from the start to the mean of what came next; steps near the start."""

    spread = 0.1

    def restore(self, start_emb, cond, *, generator=None):
        """Noise between the last targets and the start; time 1 is the start."""
        self._warn_untrained = False
        share = torch.rand(len(start_emb), 1, generator=generator).pow(0.2)
        noise = torch.randn(start_emb.shape, generator=generator)
        noise = noise * start_emb.size(1) ** -0.5
        middle = (1 - share) * self.target + share * start_emb
        x_t = middle + self.spread * (share * (1 - share)).sqrt() * noise
        step = (share.squeeze(1) * (self.num_train_timesteps - 1)).round().long()
        return self._drop_and_predict(x_t, cond, step, generator)

    def _drop_and_predict(self, x_t, cond, step, generator):
        plain = torch.zeros_like(step)  # the bridge has noised already
        kept, self.diffusion.sqrt_one_minus_alphas_cumprod = (
            self.diffusion.sqrt_one_minus_alphas_cumprod,
            torch.zeros_like(self.diffusion.sqrt_one_minus_alphas_cumprod),
        )
        try:
            network = partial(self._at, step)
            return self._reconstruct(network, x_t, cond, plain, generator)
        finally:
            self.diffusion.sqrt_one_minus_alphas_cumprod = kept

    def _at(self, step, x_t, cond, t, **options):
        return self.item_denoiser(x_t, cond, step, **options)

    @torch.no_grad()
    def generate(self, history_emb, user_emb=None, **options):
        """Walk from the start, time 1, to the target, time 0, in equal steps."""
        x, count = history_emb, self.num_inference_steps
        for k in range(count):
            share = 1 - k / count
            step = torch.tensor([round(share * (self.num_train_timesteps - 1))])
            hat = self.item_denoiser(x, user_emb, step)
            later = 1 - (k + 1) / count
            x = hat + (x - hat) * (later / share)
        return x


class BridgeRecommender(DDRMRecommender):
    """Tells a bridge where it leads: the mean of the next items, of length 1."""

    def losses(self, batch, graph, *, generator):
        """Hand the targets over before the loss is taken."""
        future = self.future
        after = future.sequences(graph).after(batch.user, batch.cut, future.window)
        table = future.past.item_table
        mean = table.new_zeros(len(batch.user), table.size(1))
        mean = mean.index_add(0, after.row, table[after.item])
        self.ddrm.target = torch.nn.functional.normalize(mean, dim=1)
        yield from super().losses(batch, graph, generator=generator)


ONE = {"num_start_steps": 0}
SIX = {"num_inference_steps": 6}
WAYS = {
    "one pass": (DDRM, ONE),
    "no noise in training": (
        DDRM,
        {**ONE, "noise_scale": 1e-9, "fix_first_beta": False},
    ),
    "noise x 10": (DDRM, {**ONE, "noise_scale": 0.1}),
    "noise x 100": (DDRM, {**ONE, "noise_scale": 1.0}),
    "two passes": (DDRM, {"num_inference_steps": 2}),
    "six passes": (DDRM, SIX),
    "six passes, noise x 100": (DDRM, {**SIX, "noise_scale": 1.0}),
    "two passes, walk covered": (Covering, {"num_inference_steps": 2}),
    "six passes, walk covered": (Covering, SIX),
    "bridge, one pass": (Bridge, {**ONE, "num_inference_steps": 1}),
    "bridge, two passes": (Bridge, {"num_inference_steps": 2}),
    "bridge, six passes": (Bridge, SIX),
}


def train(data, emb, way, seed, epochs):
    """Train one way; return its validation and test metrics."""
    model_class, options = WAYS[way]
    torch.manual_seed(seed)
    ddrm = model_class(emb.item.size(1), **PLAIN, **options)
    wrap = BridgeRecommender if model_class is Bridge else DDRMRecommender
    model = wrap(ddrm, emb, train_start="past", edge_time=data[EDGE].edge_time)
    start = time.process_time()
    result = fit(
        model,
        data,
        epochs=epochs,
        batch_size=128,
        lr=3e-4,
        seed=seed,
        eval_every=2,
        patience=4,
        progress=False,
    )
    scorer = model.scorer(InteractionGraph.from_data(data))
    metrics = {s: evaluate(scorer, data, split=s) for s in ("val", "test")}
    return {
        "seconds": round(time.process_time() - start, 1),
        "best_epoch": result.best_epoch,
        **{s: {m: round(v[m], 5) for m in METRICS} for s, v in metrics.items()},
    }


def main():
    """Train every way on every data set with every seed, and keep the rows."""
    why = "all ways are compared on the CPU"
    parser = _measure.options(__doc__, rounds=False, on_cpu=why)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--width", type=int, default=256)
    parser.set_defaults(threads=1)
    options = parser.parse_args()
    _measure.choose(options)
    path = _measure.RESULTS / "diffusion.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for source in options.data:
        name, data = _measure.load_thinned(source, TemporalSplit())
        rows = [row for row in rows if row["data"] != name]  # others stay
        emb = SVD(options.width).scorer(InteractionGraph.from_data(data))
        for seed in range(options.seeds):
            for way in WAYS:
                row = {"data": name, "way": way, "seed": seed}
                row |= train(data, emb, way, seed, options.epochs)
                rows.append(row)
                path.write_text(json.dumps(rows, indent=1) + "\n")
                shown = "  ".join(f"{row['test'][m]:.4f}" for m in METRICS)
                print(
                    f"{name:16} {way:26} {seed}  val {row['val']['recall@20']:.4f}"
                    f"  test {shown}",
                    flush=True,
                )
    draw(rows)


def draw(rows):
    """Validation Recall@20 of every way over that of one pass, a panel a data set."""
    names = list(dict.fromkeys(row["data"] for row in rows))
    figure, panels = _measure.plt.subplots(
        1, len(names), figsize=(4 * len(names), 4), sharey=True, squeeze=False
    )
    ways = list(WAYS)[::-1]
    for axes, name in zip(panels[0], names, strict=True):
        values = {way: [] for way in WAYS}
        for row in rows:
            if row["data"] == name:
                values[row["way"]].append(row["val"]["recall@20"])
        base = sum(values["one pass"]) / len(values["one pass"])
        for y, way in enumerate(ways):
            axes.plot(
                [v / base for v in values[way]],
                [y] * len(values[way]),
                "o",
                color="C1" if way == "one pass" else "0.4",
            )
        axes.axvline(1, color="0.7", lw=1)
        axes.set_title(name)
        axes.set_xlabel("validation Recall@20 over one pass")
    panels[0][0].set_yticks(range(len(ways)), ways)
    figure.tight_layout()
    figure.savefig(_measure.RESULTS / "diffusion.png", dpi=120)


if __name__ == "__main__":
    main()
