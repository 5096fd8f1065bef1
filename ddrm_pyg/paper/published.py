"""What the paper printed: Tables 2 and 3, to be shown beside what is measured here.

"Denoising Diffusion Recommender Model" (SIGIR 2024,
https://doi.org/10.1145/3626772.3657825). Its figures print no numbers.
"""

from __future__ import annotations

from collections.abc import Mapping

from ddrm_pyg.experiments.settings import DATA_SETS
from ddrm_pyg.ranking import METRICS

_TABLE2 = """
cdae           .0305 .0530 .0178 .0246 .0219 .0399 .0122 .0175 .0355 .0675 .0272 .0391
adagcl         .0464 .0774 .0277 .0371 .0282 .0464 .0166 .0220 .0630 .1200 .0453 .0659
multivae       .0484 .0823 .0289 .0391 .0508 .0771 .0300 .0379 .0636 .1229 .0450 .0667
diffrec        .0501 .0847 .0307 .0412 .0537 .0806 .0329 .0411 .0658 .1236 .0488 .0703
mf             .0286 .0503 .0176 .0242 .0217 .0379 .0131 .0179 .0445 .0890 .0429 .0582
mf+t-ce        .0316 .0547 .0191 .0261 .0230 .0393 .0136 .0185 .0460 .0866 .0432 .0573
mf+r-ce        .0324 .0554 .0195 .0265 .0227 .0394 .0134 .0184 .0472 .0901 .0434 .0587
mf+deca        .0295 .0494 .0181 .0241 .0118 .0188 .0071 .0092 .0451 .0863 .0428 .0851
mf+ddrm        .0354 .0578 .0215 .0282 .0249 .0406 .0148 .0196 .0477 .0916 .0450 .0601
lightgcn       .0502 .0858 .0295 .0403 .0432 .0710 .0251 .0333 .0618 .1193 .0444 .0652
lightgcn+t-ce  .0504 .0856 .0294 .0400 .0421 .0691 .0242 .0323 .0625 .1191 .0457 .0661
lightgcn+r-ce  .0516 .0877 .0304 .0412 .0439 .0723 .0253 .0337 .0623 .1208 .0457 .0668
lightgcn+deca  .0486 .0832 .0286 .0390 .0419 .0688 .0242 .0321 .0616 .1202 .0446 .0659
lightgcn+ddrm  .0516 .0870 .0305 .0412 .0468 .0742 .0273 .0355 .0667 .1221 .0508 .0710
sgl            .0485 .0835 .0287 .0393 .0467 .0758 .0267 .0353 .0620 .1164 .0448 .0648
sgl+t-ce       .0493 .0840 .0293 .0398 .0483 .0765 .0276 .0361 .0647 .1184 .0470 .0667
sgl+r-ce       .0488 .0831 .0289 .0393 .0498 .0772 .0283 .0367 .0651 .1165 .0479 .0670
sgl+deca       .0476 .0801 .0282 .0380 .0489 .0764 .0285 .0368 .0641 .1183 .0475 .0673
sgl+ddrm       .0517 .0860 .0312 .0415 .0535 .0813 .0313 .0396 .0698 .1261 .0530 .0739
"""

# SGL's row there is not that of Table 2; the transformer is stated once, and stands
# here for both of its readings.
_TABLE3_YELP = """
sgl                    .0488 .0841 .0290 .0397
sgl+ddrm               .0517 .0860 .0312 .0415
sgl+ddrm transformer   .0469 .0786 .0282 .0378
sgl+ddrm gate          .0469 .0786 .0282 .0378
sgl+ddrm noise start   .0213 .0364 .0133 .0179
sgl+ddrm dynamic s     .0508 .0847 .0305 .0407
"""


def published(table: str, row: str, data: str | None) -> Mapping[str, float]:
    """Look up a row of the paper.

    Args:
        table: ``"table2"`` or ``"table3"``; nothing is printed for others.
        row: A method's name, as :data:`ddrm_pyg.experiments.methods.table_names`, or a
            variant of Table 3.
        data: One of :data:`DATA_SETS`; None for what the paper does not know.

    Returns:
        Metric to value; empty where the paper has no such row.
    """
    values = _ROWS.get((table, data), {}).get(row, ())
    return dict(zip(METRICS, values, strict=False))


def _parse(text: str, first: int = 0) -> dict[str, list[float]]:
    """Read the four columns that start at the number ``first`` of each line."""
    rows = {}
    for line in text.strip().splitlines():
        name, numbers = line.split(" .", 1)
        values = [float(number) for number in f".{numbers}".split()]
        rows[name.strip()] = values[first : first + len(METRICS)]
    return rows


_ROWS: dict[tuple[str, str | None], dict[str, list[float]]] = {
    **{("table2", data): _parse(_TABLE2, 4 * i) for i, data in enumerate(DATA_SETS)},
    ("table3", "yelp"): _parse(_TABLE3_YELP),
}
