"""The order of jobs and blocks, as priorities: A B B A where a lane changes models cheaply, else model by model.

A scheduler that always takes the ready job of highest priority then does, on an interleaving lane, all starts (each
with its answers) first, then tuple by tuple one round of all arms after the other: A B, B A, A B, …; on a restarting
lane everything of one model before the next. Where servers are started several times, all of them are up once before
the first block, and all that is of the first start comes before all that is of the second. The blocks of a run follow
the same order (`serving.agenda`). Priorities only make order: a lane's lock makes correctness.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence

from quantbench.records.cell import Cell, served_model
from quantbench.records.plan import start_of

RESTART = "restart"
ROUNDS = 64  # later blocks share the last place
SPARE_CELLS = 64  # places for cells that are asked for by name and are in no grid


def round_order(arms: Sequence[str], number: int) -> list[str]:
    """Order of the arms in round `number` (0, 1, …); arms[0] is the baseline.

    Every second round is the reverse of the one before, so over two rounds every arm has the same mean place and a
    linear drift cancels. The baseline is in the middle, next to as many variants as can be, and the variants
    change places every two rounds. Two arms give A B, B A, A B, ….
    """
    if not arms:
        return []
    baseline, variants = arms[0], list(arms[1:])
    turn = (number // 2) % max(1, len(variants))
    variants = variants[turn:] + variants[:turn]
    middle = len(variants) // 2
    order = [*variants[:middle], baseline, *variants[middle:]]
    return order[::-1] if number % 2 else order


class Schedule:
    """Priorities (higher first, always above 0) of one run's jobs.

    models: {arm: lane} in order, the baseline first, A/A arms included. modes: {lane: mode}; `restart` goes model by
    model, all others interleave. cells: the grid in the order to measure. aa: {A/A arm: the model that serves it}.
    together: groups of {arm: cell} whose blocks take turns as those of one cell do: with the cell of the grid that is
    among them, else after the grid; cells of the grid keep their place.
    starts: {lane: how often its servers are started}, one where not given; `blocks` of each cell are divided over them.
    Arms and cells that are not named here get a valid place too, after the named ones.
    """

    def __init__(
        self,
        models: Mapping[str, str],
        modes: Mapping[str, str],
        cells: Sequence[Cell],
        aa: Mapping[str, str] | None = None,
        together: Iterable[Mapping[str, Cell]] = (),
        starts: Mapping[str, int] | None = None,
        blocks: int = 1,
    ) -> None:
        self._aa = dict(aa or {})
        self._lane = dict(models)
        self._modes = dict(modes)
        groups = list(together)
        self._starts, self._planned = dict(starts or {}), blocks
        self._cells = {cell: rank for rank, cell in enumerate(cells)}
        self._own: dict[tuple[str, Cell], int] = {}
        for n, group in enumerate(groups):
            place = next((self._cells[cell] for cell in group.values() if cell in self._cells), len(cells) + n)
            self._own |= {(arm, cell): place for arm, cell in group.items() if cell not in self._cells}
        self._arms = {lane: [a for a in models if models[a] == lane] for lane in models.values()}
        self._width = max(map(len, self._arms.values()), default=0) + 1  # one place for unknown arms
        self._named = len(cells) + len(groups)
        self._blocks = (self._named + SPARE_CELLS) * ROUNDS * self._width
        # places within a group: starts, blocks, stops
        self._group = self._blocks + 2 * self._width
        # groups: one for each start, on restarting lanes one for each start of each model
        self._groups = max([1, *self._starts.values()]) * self._width

    def start(self, model: str) -> int:
        """Priority of starting a model's server, and of what it is asked as soon as it is up: the quality prompts."""
        if self._starts_of(model) > 1:  # blocks of all models take turns start by start, so each is up once before
            return self._groups * self._group - self._number(model)
        return self._priority(model, 1, self._number(model))

    def block(self, arm: str, cell: Cell, number: int) -> int:
        """Priority of measuring block `number` (1, 2, …) of one cell."""
        place = min(max(number - 1, 0), ROUNDS - 1)
        turn = (self._cell(arm, cell) * ROUNDS + place) * self._width + self._position(arm, place)
        start = start_of(max(number, 1), self._planned, self._starts_of(arm))
        return self._priority(arm, start, self._width + turn)

    def stop(self, model: str) -> int:
        """Priority of stopping a model's server: after all else of its lane, or of the model on a restarting lane."""
        return self._priority(model, self._starts_of(model), self._width + self._blocks + self._number(model))

    def _priority(self, arm: str, start: int, place: int) -> int:
        group = (start - 1) * self._width + (self._number(arm) if self._restarts(arm) else 0)
        return self._groups * self._group - (group * self._group + place)

    def _starts_of(self, arm: str) -> int:
        return self._starts.get(self._lane.get(self._served(arm), ""), 1)

    def _served(self, arm: str) -> str:
        return self._aa.get(arm, served_model(arm))

    def _restarts(self, arm: str) -> bool:
        return self._modes.get(self._lane.get(self._served(arm), "")) == RESTART

    def _peers(self, arm: str) -> list[str]:
        """Arms that take turns with `arm`: all of its lane, or all that its server serves."""
        arms = self._arms.get(self._lane.get(self._served(arm), ""), [])
        if self._restarts(arm):
            return [other for other in arms if self._served(other) == self._served(arm)]
        return arms

    def _number(self, arm: str) -> int:
        """Place of the arm's server among those of its lane; unknown ones come last."""
        arms = self._arms.get(self._lane.get(self._served(arm), ""), [])
        return arms.index(self._served(arm)) if self._served(arm) in arms else self._width - 1

    def _position(self, arm: str, place: int) -> int:
        peers = self._peers(arm)
        return round_order(peers, place).index(arm) if arm in peers else self._width - 1

    def _cell(self, arm: str, cell: Cell) -> int:
        """Place of a cell; outside the grid a fixed place after it (two may share one, which does no harm)."""
        spare = self._named + zlib.crc32(cell.key.encode()) % SPARE_CELLS
        return self._own.get((arm, cell), self._cells.get(cell, spare))
