"""A planted world of clicks whose noise labels are known: the offline default data."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch_geometric.data import HeteroData, InMemoryDataset

from ddrm_pyg.transforms.split import TemporalSplit

# The constants below were set once, by statistics of the data and, for the still world,
# by closed-form yardsticks (popularity, item cosine, EASE); no denoising method was run
# on the data.
# "As ML-1M": the published natural-noise split of that data set.
TASTE_SPREAD = 2.0  # how far users differ in topics, and ...
ITEM_SPREAD = 2.5  # ... items too: cosine and EASE clearly beat popularity, as ML-1M
BAIT_SHARE = 0.2  # of the clicks follow the front page instead of taste
BAIT_SPREAD = 0.4  # how far items differ in what their clickbait draws
# What a click's joy is made of, beside a mood of spread 1: true shares of likes per
# item tell noise with AUROC .72 (ML-1M .74), planted joy without mood with .78 (.79).
QUALITY_WEIGHT, BAIT_WEIGHT, MATCH_WEIGHT, LENIENCY_WEIGHT = 0.56, 0.35, 0.5, 0.4
ACTIVITY_SPREAD = 1.5  # lognormal excess of clicks: median / mean .58, as ML-1M
MIN_CLICKS = 20  # per user, as ML-1M
MIN_LIKED = 10  # per user, so that each has 7 train, 1 val and 2 test items at least
# Shares of 1 to 5 stars in a user's early clicks, about train. The first three are
# the .39 of ML-1M, a little more because of MIN_LIKED.
STAR_SHARES = (0.05, 0.11, 0.242, 0.36, 0.238)
LIKED_FROM = 4.0  # stars
TRIES = 20  # for an item that the user does not have, before looking elsewhere
SESSION_END, SESSION_GAP, CLICK_GAP = 0.05, 3 * 86_400, 30  # chance, seconds, seconds
FIRST_DAY, SIGNUP_SPAN = 956_700_000, 365 * 86_400  # seconds: April 2000, one year

# How the world moves: set by the numbers of benchmarks/movement.py alone, to lie among
# those of three real logs; no recommender was run on the data.
TASTE_MEMORY = 6.0  # l clicks later, 6 / (6 + l) are still after the same
AISLES = 8  # that topics are parted into: what somebody is after at a time
MONTHS, MONTH = 12, 365 * 86_400 / 12  # of the year of sign-ups; seconds
EVERGREEN, FADES_IN = 0.3, 5.0  # share of items that are always there; months


class Shape(NamedTuple):
    """What gives a world the shape of ML-1M, see the comments above.

    Attributes:
        spread: Of log visibility: a tenth of the items holds .45 to .52 of train.
        pull: Good items become popular: AUROC of popularity .61 to .66.
        fame_first: Well-known items are met early. Popularity's test N@20 is .05 to .09
            in the still world; in the moving one the first fifth of a user's items is
            better known than the last by .33 standard deviations of the log of clicks
            (the real logs: 0 to .56).
        ratios: Of the liked; .71, .19 and .10 of all.
    """

    spread: float
    pull: float
    fame_first: float
    ratios: tuple[float, float, float]


STILL = Shape(spread=1.36, pull=0.92, fame_first=0.25, ratios=(0.74, 0.09, 0.17))
MOVING = Shape(spread=1.9, pull=0.98, fame_first=0.15, ratios=(0.72, 0.11, 0.17))


class PlantedTruth(NamedTuple):
    """What made the clicks. For measuring only: no model may read it.

    Attributes:
        user_taste: Each user's share per topic, ``[num_users, num_topics]``.
        item_topic: Each item's share per topic, ``[num_items, num_topics]``.
        item_quality: How much an item is liked by whoever meets it, ``[num_items]``.
        item_bait: Clickbait appeal: draws clicks, disappoints, ``[num_items]``.
        item_visibility: Exposure, the weight of an item before taste, ``[num_items]``.
    """

    user_taste: Tensor
    item_topic: Tensor
    item_quality: Tensor
    item_bait: Tensor
    item_visibility: Tensor


class SyntheticInteractions(InMemoryDataset):
    """A seeded world of users who click, and then like or regret.

    A click is either led by taste (visibility x topic match) or lured by the front
    page (visibility x clickbait appeal). Whether it was liked depends on other
    things: the item's quality less its appeal, the topic match, the user's leniency
    and a mood. False positives (ratings below 4) therefore gather on low-quality and
    clickbait items and on items off the user's taste.

    The world moves as real logs do. A user is after one topic, and one aisle of it, for
    some clicks, and returns to the user's mean tastes by a power law. A third of the
    items is always there; the others come out in the course of the year and fade. What
    moves, and how far, was measured on three real logs (``benchmarks/movement.py``).

    The defaults have the shape of ML-1M with natural noise: false positives are .39
    of train, popularity tells them from liked ones with AUROC .63, and a tenth of the
    items holds .46 of train.

    :class:`~ddrm_pyg.transforms.TemporalSplit` cuts each user's liked clicks by time.
    As in the published sets, false positives go to train up to the end of the user's
    train block and to validation afterwards, so that test is all liked and the splits
    hold about .71, .19 and .10 of the clicks. No pair occurs twice.

    ``dataset[0]`` is a :class:`~torch_geometric.data.HeteroData` with ``raw_id`` on
    both node types and, on ``('user', 'interacts', 'item')``, ``edge_index`` (train
    only), ``edge_time`` (seconds), ``edge_rating`` (1.0 to 5.0) and
    ``edge_is_noise``, each ``[E]``; ``{val,test}_edge_label_index`` and the same
    three as ``{val,test}_edge_*``. Rows are sorted by user, then by time.
    ``dataset.truth`` holds what made the clicks, out of any model's sight.

    Time and memory grow with the clicks and with nodes x topics, never with
    users x items.

    Args:
        num_users: Number of users.
        num_items: Number of items.
        num_interactions: Number of clicks in all three splits, at least 20 for each
            user and at most a quarter of all pairs.
        num_topics: Number of topics that tastes and items are mixtures of.
        moving: Whether tastes and popularity move with time. In the still world,
            which is the older one, to the bit, the only movement is that users meet
            well-known items earlier.
        seed: Owns every draw; the same seed gives the same bits on CPU, whatever the
            number of threads, and leaves PyTorch's global generator alone.
        transform: Applied to the data object at each access.

    Raises:
        ValueError: If a size is out of range.
    """

    def __init__(
        self,
        num_users: int = 2000,
        num_items: int = 1500,
        num_interactions: int = 110_000,
        *,
        num_topics: int = 8,
        moving: bool = True,
        seed: int = 0,
        transform: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        _check_sizes(num_users, num_items, num_interactions, num_topics)
        super().__init__(None, transform)
        generator = Generator().manual_seed(seed)
        shape = MOVING if moving else STILL
        self.truth = _plant(num_users, num_items, num_topics, shape, generator)
        activity = _activity(num_users, num_items, num_interactions, generator)
        user = torch.repeat_interleave(activity)
        position = torch.arange(user.numel()) - (activity.cumsum(0) - activity)[user]
        if moving:
            time = _times(position == 0, generator)
            item = _click_in_time(self.truth, user, time, generator)
        else:
            item = _click(self.truth, activity, generator)
            time = _times(position == 0, generator)
        early = position < shape.ratios[0] * activity[user]
        rating = _rate(self.truth, user, item, activity, early, generator)
        data = _to_data(num_users, num_items, torch.stack([user, item]), time, rating)
        data = TemporalSplit(shape.ratios)(data)
        self.data, self.slices = self.collate([data])


def _check_sizes(
    num_users: int, num_items: int, num_interactions: int, num_topics: int
) -> None:
    for name, value, least in (
        ("num_users", num_users, 1),
        ("num_items", num_items, 4 * MIN_CLICKS),
        ("num_topics", num_topics, 2),
    ):
        if value < least:
            raise ValueError(f"'{name}' must be >= {least} (got {value})")
    least, most = MIN_CLICKS * num_users, num_users * num_items // 4
    if not least <= num_interactions <= most:
        raise ValueError(
            f"'num_interactions' must be between {MIN_CLICKS} * num_users = {least} "
            f"and num_users * num_items / 4 = {most} (got {num_interactions})"
        )


def _plant(
    num_users: int,
    num_items: int,
    num_topics: int,
    shape: Shape,
    generator: Generator,
) -> PlantedTruth:
    def normal(*size: int) -> Tensor:
        # float64, because a draw that lands elsewhere after rounding is another click.
        return torch.randn(size, generator=generator, dtype=torch.float64)

    quality, bait, luck = normal(3, num_items)
    pull = shape.pull * quality + (1 - shape.pull**2) ** 0.5 * luck
    return PlantedTruth(
        user_taste=(TASTE_SPREAD * normal(num_users, num_topics)).softmax(1),
        item_topic=(ITEM_SPREAD * normal(num_items, num_topics)).softmax(1),
        item_quality=quality,
        item_bait=bait,
        item_visibility=(shape.spread * pull).exp(),
    )


def _activity(
    num_users: int, num_items: int, num_interactions: int, generator: Generator
) -> Tensor:
    """Long-tailed number of clicks per user ``[num_users]``, with an exact total."""
    total = num_interactions - MIN_CLICKS * num_users
    share = torch.randn(num_users, generator=generator, dtype=torch.float64)
    share = (ACTIVITY_SPREAD * share).exp()
    # Nobody adds more than half of the items: cap, spread what was cut off, repeat.
    # cumsum, not sum: the rounding of a parallel sum depends on the threads.
    for _ in range(30):
        share = share / share.cumsum(0)[-1]
        share = share.clamp(max=num_items / 2 / max(total, 1))
    edge = share.cumsum(0)
    edge = (edge / edge[-1] * total).round().long()
    return MIN_CLICKS + edge.diff(prepend=edge.new_zeros(1))


def _click(truth: PlantedTruth, activity: Tensor, generator: Generator) -> Tensor:
    """Draw each user's items without repeats, in the order of the clicks.

    A pair drawn twice counts once and its user draws again.

    Returns:
        Items ``[num_interactions]``, sorted by user, then by order.
    """
    source, shelf = _shelves(truth)
    num_items = shelf.shape[1]
    pair = activity.new_empty(0)
    missing, tries = activity, 0
    while missing.any():
        user = torch.repeat_interleave(missing)
        if tries < 20:
            item = _pick(shelf, _pick(source, user, generator), generator)
        else:  # in small worlds the last few are found by browsing evenly
            item = torch.randint(num_items, user.shape, generator=generator)
        pair = _first_of_each(torch.cat([pair, user * num_items + item]))
        missing = activity - torch.bincount(pair // num_items, minlength=len(activity))
        tries += 1
    user, item = pair // num_items, pair % num_items
    return item[_race(truth, item, user, STILL.fame_first, generator)]


def _race(
    truth: PlantedTruth,
    item: Tensor,
    group: Tensor,
    fame_first: float,
    generator: Generator,
) -> Tensor:
    """Order by group; inside, more visible items tend to be met sooner."""
    met = torch.empty(item.shape, dtype=torch.float64).exponential_(generator=generator)
    order = (met / truth.item_visibility[item] ** fame_first).argsort(stable=True)
    return order[group[order].argsort(stable=True)]


def _click_in_time(
    truth: PlantedTruth, user: Tensor, time: Tensor, generator: Generator
) -> Tensor:
    """Draw an item for each click, by what the user is after and by the month.

    A pair drawn twice counts once, and the later click draws again.

    Returns:
        Items ``[num_interactions]``; no user has one twice.
    """
    num_items = len(truth.item_quality)
    source, _ = _shelves(truth)
    shelf, aisle = _runs(truth, user, generator)
    month = ((time - FIRST_DAY) / MONTH).long().clamp(0, MONTHS - 1)
    season = _seasons(num_items, generator)
    item = torch.full_like(user, -1)
    missing, tries = torch.arange(user.numel()), 0
    while missing.numel():
        if tries >= TRIES:  # who has seen what there is looks elsewhere, by taste
            shelf[missing] = _pick(source, user[missing], generator)
            aisle[missing] = -1
        if tries < 2 * TRIES:
            place = (month[missing], shelf[missing], aisle[missing])
            drawn = _pick_by_month(truth, season, place, generator)
        else:  # in small worlds the last few are found by browsing evenly
            drawn = torch.randint(num_items, missing.shape, generator=generator)
        done = (item >= 0).nonzero().flatten()
        pair = torch.cat(
            [user[done] * num_items + item[done], user[missing] * num_items + drawn]
        )
        is_new = _is_first(pair)[done.numel() :]
        item[missing[is_new]] = drawn[is_new]
        missing, tries = missing[~is_new], tries + 1
    # Who is in an aisle for a month meets its well-known items first.
    group = (user * MONTHS + month) * source.shape[1] + shelf
    group = group * (AISLES + 1) + aisle + 1
    order = _race(truth, item, group, MOVING.fame_first, generator)
    ordered = torch.empty_like(item)
    ordered[group.argsort(stable=True)] = item[order]
    return ordered


def _runs(
    truth: PlantedTruth, user: Tensor, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Draw what each click is after: a topic and an aisle of it, or the front page.

    A click stays where the one before was with a chance that is the user's own,
    Beta(``TASTE_MEMORY``, 1), so that tastes return to the user's mean by a power law.

    Returns:
        The shelf ``[E]`` and the aisle ``[E]``, -1 on the front page.
    """

    def uniform(size: int) -> Tensor:
        return torch.rand(size, generator=generator, dtype=torch.float64)

    source, shelf = _shelves(truth)
    clicks, (num_shelves, num_items) = user.numel(), shelf.shape
    stays = uniform(clicks) < (uniform(len(source)) ** (1 / TASTE_MEMORY))[user]
    stays &= user.diff(prepend=user.new_full((1,), -1)) == 0
    lured = uniform(clicks) < BAIT_SHARE
    topic = _pick(source[:, :-1] / source[:, -2:-1], user, generator)
    aisle = _pick(shelf, topic, generator) * AISLES // num_items
    begun = torch.arange(clicks).masked_fill(stays, 0).cummax(0).values
    return (
        topic[begun].masked_fill(lured, num_shelves - 1),
        aisle[begun].masked_fill(lured, -1),
    )


def _pick_by_month(
    truth: PlantedTruth,
    season: Tensor,
    place: tuple[Tensor, Tensor, Tensor],
    generator: Generator,
) -> Tensor:
    """Draw an item for each month, shelf and aisle ``[M]`` from what is out then."""
    month, shelf, aisle = place
    drawn = torch.empty_like(month)
    for now in month.unique().tolist():
        here = (month == now).nonzero().flatten()
        visible = truth.item_visibility * season[:, now]
        _, table = _shelves(truth._replace(item_visibility=visible))
        drawn[here] = _pick_in_aisle(table, shelf[here], aisle[here], generator)
    return drawn


def _pick_in_aisle(
    table: Tensor, row: Tensor, aisle: Tensor, generator: Generator
) -> Tensor:
    """Draw as :func:`_pick`, from the columns of an aisle only (-1: from all)."""
    columns = table.shape[1]
    edge = -(-torch.arange(AISLES + 1) * columns // AISLES)  # the first of each aisle
    begin = edge[aisle.clamp(min=0)]
    end = edge[aisle + 1].masked_fill(aisle < 0, columns)
    low = torch.where(begin > 0, table[row, begin - 1], 0.0)
    share = torch.rand(row.shape, generator=generator, dtype=torch.float64)
    line = (table + torch.arange(len(table))[:, None]).flatten()
    where = row + low + (table[row, end - 1] - low) * share
    column = torch.searchsorted(line, where, right=True) - row * columns
    return column.clamp(begin, end - 1)  # rounding may lead out


def _seasons(num_items: int, generator: Generator) -> Tensor:
    """Make each item's visibility by the month ``[num_items, MONTHS]``, of mean 1.

    Some items are always there; the others come out in the course of the year and
    fade.
    """
    draw = torch.rand(2, num_items, generator=generator, dtype=torch.float64)
    age = torch.arange(1, MONTHS + 1) - MONTHS * draw[0, :, None]
    season = (-age / FADES_IN).exp().masked_fill(age < 0, 0.0)
    season[draw[1] < EVERGREEN] = 1.0
    return season / season.mean(1, keepdim=True)


def _shelves(truth: PlantedTruth) -> tuple[Tensor, Tensor]:
    """Tables to pick from: topics plus the front page, and the items on each.

    Picking a shelf in proportion to taste x size, then an item in proportion to
    visibility x topic, draws items by visibility x match and needs no users x items
    matrix.

    Returns:
        Cumulative shares ``[num_users, num_topics + 1]`` of the shelves per user,
        and ``[num_topics + 1, num_items]`` of the items per shelf.
    """
    front_page = truth.item_visibility * (BAIT_SPREAD * truth.item_bait).exp()
    topic = (truth.item_topic * truth.item_visibility[:, None]).T
    shelf = torch.cat([topic, front_page[None]]).cumsum(1)
    source = (truth.user_taste * shelf[:-1, -1]).cumsum(1)
    source = (1 - BAIT_SHARE) * source / source[:, -1:]
    source = torch.cat([source, torch.ones_like(source[:, :1])], dim=1)
    return source, shelf / shelf[:, -1:]


def _pick(table: Tensor, row: Tensor, generator: Generator) -> Tensor:
    """Draw a column for each entry of ``row`` from a table of cumulative shares."""
    # Adding its number to each row makes the table one sorted line.
    line = (table + torch.arange(len(table))[:, None]).flatten()
    where = row + torch.rand(row.shape, generator=generator, dtype=torch.float64)
    column = torch.searchsorted(line, where, right=True) - row * table.shape[1]
    return column.clamp(max=table.shape[1] - 1)  # row + .999... may round up


def _first_of_each(value: Tensor) -> Tensor:
    """Drop repeats and keep the order of first appearance."""
    return value[_is_first(value)]


def _is_first(value: Tensor) -> Tensor:
    """Mark the first appearance of each value."""
    order = value.argsort(stable=True)
    first = torch.empty_like(value, dtype=torch.bool)
    first[order] = value[order].diff(prepend=value.new_full((1,), -1)) != 0
    return first


def _times(is_first: Tensor, generator: Generator) -> Tensor:
    """Seconds ``[E]``, increasing per user: sessions of about 20 clicks, days apart."""

    def exponential(mean: float) -> Tensor:
        gap = torch.empty(is_first.shape, dtype=torch.float64)
        return gap.exponential_(1 / mean, generator=generator).long() + 1

    chance = torch.rand(is_first.shape, generator=generator, dtype=torch.float64)
    new_session = chance < SESSION_END
    gap = torch.where(new_session, exponential(SESSION_GAP), exponential(CLICK_GAP))
    elapsed = gap.cumsum(0)
    start = torch.randint(SIGNUP_SPAN, (int(is_first.sum()),), generator=generator)
    start = FIRST_DAY + start - elapsed[is_first]
    return elapsed + start[is_first.cumsum(0) - 1]


def _rate(
    truth: PlantedTruth,
    user: Tensor,
    item: Tensor,
    activity: Tensor,
    early: Tensor,
    generator: Generator,
) -> Tensor:
    """Stars ``[E]``, float32: joy, cut at ``STAR_SHARES`` of the early clicks."""
    mood = torch.randn(user.shape, generator=generator, dtype=torch.float64)
    leniency = torch.randn(activity.shape, generator=generator, dtype=torch.float64)
    joy = (
        QUALITY_WEIGHT * truth.item_quality[item]
        - BAIT_WEIGHT * truth.item_bait[item]
        + MATCH_WEIGHT * _log_match(truth, user, item)
        + LENIENCY_WEIGHT * leniency[user]
        + mood
    )
    share = torch.tensor(STAR_SHARES[:-1], dtype=torch.float64).cumsum(0)
    sample = joy[early].sort().values
    cut = sample[(share * len(sample)).long()]
    rating = 1.0 + torch.searchsorted(cut, joy, right=True).float()
    # Even a grump likes a few clicks, or would have no test items.
    order = joy.argsort(descending=True, stable=True)
    order = order[user[order].argsort(stable=True)]  # by user, the best first
    first = (activity.cumsum(0) - activity)[:, None]
    best = order[first + torch.arange(MIN_LIKED)]
    rating[best] = rating[best].clamp(min=LIKED_FROM)
    return rating


def _log_match(truth: PlantedTruth, user: Tensor, item: Tensor) -> Tensor:
    """How near an item is to a user's taste ``[E]``: log of the shared topics."""
    chunks = zip(user.split(1 << 18), item.split(1 << 18), strict=True)
    match = [(truth.user_taste[u] * truth.item_topic[i]).sum(1) for u, i in chunks]
    return torch.cat(match).log()


def _to_data(
    num_users: int, num_items: int, pair: Tensor, time: Tensor, rating: Tensor
) -> HeteroData:
    data = HeteroData()
    # Not the row numbers, so that a mistaken id shows.
    data["user"].num_nodes = num_users
    data["user"].raw_id = torch.arange(num_users) + 10_001
    data["item"].num_nodes = num_items
    data["item"].raw_id = torch.arange(num_items) + 1_000_001
    store = data["user", "interacts", "item"]
    store.edge_index = pair
    store.edge_time = time
    store.edge_rating = rating
    store.edge_is_noise = rating < LIKED_FROM
    return data
