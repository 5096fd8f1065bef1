"""Every example runs by itself and says what it should."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
VALUE = r"(0\.\d{4})"
# what each prints, line by line; groups are metrics, which must not be those of chance
EXPECTED = {
    "01_five_uses.py": [
        r"InteractionGraph\(num_users=400, num_items=300, num_edges=\d+\)",
        r"LightGCN: best epoch \d+ by recall@20 on validation",
        rf"LightGCN recall@20 {VALUE}, ndcg@20 {VALUE}",
        rf"\+ DDRM   recall@20 {VALUE}, ndcg@20 {VALUE}",
        *(rf"user 1000{n}: items \[(?:1000\d\d\d(?:, )?){{5}}\]" for n in (1, 2, 3)),
    ],
    "02_foreign_embeddings.py": [
        rf"SVD        ndcg@20 on test {VALUE}",
        rf"SVD \+ DDRM ndcg@20 on test {VALUE}",
        "NumPy arrays: the same vectors",
        "nn.Embedding: the same vectors",
        "an .npz file: the same vectors",
    ],
    "03_to_hetero_pipeline.py": [
        r"GNN epoch 5: loss 0\.\d+",
        r"GNN epoch 10: loss 0\.\d+",
        rf"GNN        ndcg@20 on test {VALUE}",
        rf"GNN \+ DDRM ndcg@20 on test {VALUE}",
        r"downstream output \{'user': \[400, 32\], 'item': \[300, 32\]\}",
    ],
    "04_own_training_loop.py": [
        r"epoch 5: loss 0\.\d+, recall@20 on val 0\.\d+",
        r"epoch 10: loss 0\.\d+, recall@20 on val 0\.\d+",
        r"epoch 15: loss 0\.\d+, recall@20 on val 0\.\d+",
        rf"epoch 20: loss 0\.\d+, recall@20 on val {VALUE}",
        rf"epoch \d+ on test: recall@20 {VALUE}",
    ],
    "05_own_model.py": [
        "HistoryMF keeps the protocols",
        rf"best epoch \d+, recall@20 {VALUE} on val",
        rf"HistoryMF ndcg@20 on test {VALUE}",
        rf"\+ DDRM    ndcg@20 on test {VALUE}",
    ],
    "06_noisy_csv.py": [
        r"\d+ train purchases, [34]\d% of them regretted",
        rf"ndcg@20 on test {VALUE}",
        r"customer-7: (?:B00\d{3}(?:, )?){5}",
        r"customer-42: (?:B00\d{3}(?:, )?){5}",
    ],
}


def test_every_example_is_listed():
    scripts = {path.name for path in EXAMPLES.glob("*.py")}
    assert scripts == set(EXPECTED)
    readme = (EXAMPLES / "README.md").read_text("utf-8")
    assert set(re.findall(r"\]\((\w+\.py)\)", readme)) == scripts


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPECTED)
def test_example_says_what_it_should(name, tmp_path):
    done = subprocess.run(
        [sys.executable, "-I", EXAMPLES / name],
        cwd=tmp_path,
        env=os.environ | {"OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(EXPECTED[name]), done.stdout
    for line, pattern in zip(lines, EXPECTED[name], strict=True):
        match = re.fullmatch(pattern, line)
        assert match, f"{line!r} is not {pattern!r}"
        # ranking at random: recall@20 near 20 / 300, ndcg@20 lower
        assert all(float(value) > 0.1 for value in match.groups()), line
    assert list(tmp_path.iterdir()) == []
