"""Adam for tables of which a step reads few rows: what it does to the others is done when they are read next.

Adam moves every row at every step, those without a gradient by their momentum. A row that is current at step s and has
no gradient in the n steps after it goes, as dense Adam has it, to

    w − lr · m / (√v + ε′) · Σ_{j=1…n} (β₁ / √β₂)^j · √(1 − β₂^(s+j)) / (1 − β₁^(s+j)),  β₁ⁿ m,  β₂ⁿ v

where the sum depends on s and n alone, and is one number for all rows of equal age. So a row can wait until a batch
holds it, and the result is that of dense Adam but for rounding. ε′ is the mean of what stands beside √v at those steps,
ε · √((1 − β₂^(s+j)) / β₂^j), weighted as in the sum; that is no longer exact only where √v is about as small as ε.
Lazy Adam (`torch.optim.SparseAdam`) never takes those steps and learns something else: after a single gradient,
momentum carries a row ten times as far as the first step does.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.optim.adam import adam

_REMEMBERED = 400
"""Steps after which a row's momentum is nothing: (β₁ / √β₂)^400 is 10⁻¹⁸."""
_AT_ONCE = 1 << 18
"""Rows that are brought up to date at once."""


class RowwiseAdam(torch.optim.Adam):
    """Fused dense Adam for `others`, the same by row for `tables`.

    Before a batch is computed, `read` has to be told its rows; before anything else reads the tables, `settle` has to
    be called. Both change weights into what dense Adam would have made of them by now.
    """

    def __init__(self, tables: Iterable[nn.Parameter], others: Iterable[nn.Parameter], *, learning_rate: float) -> None:
        super().__init__(others, lr=learning_rate, fused=True)
        self.tables = list(tables)
        """What is updated by row; all have the same rows."""
        for table in self.tables:
            self.state[table] = {"exp_avg": torch.zeros_like(table), "exp_avg_sq": torch.zeros_like(table)}
        first = self.tables[0]
        # All tables are read by the same rows, so that the first one tells of all what steps their rows have had.
        self._common = self.state[first]
        self._common["current"] = torch.zeros(len(first), dtype=torch.int32, device=first.device)
        self._common["steps"] = torch.zeros((), dtype=torch.int64)
        self._momentum = _Momentum(*self.defaults["betas"])
        self._rows: Tensor | None = None
        self._gathered: list[tuple[Tensor, Tensor, Tensor]] = []

    @property
    def steps(self) -> int:
        """Steps taken."""
        return int(self._common["steps"])

    @torch.no_grad()
    def read(self, rows: Int64[Tensor, " u"] | None) -> None:
        """Bring `rows`, ascending and each once, to where dense Adam has them now: None for all of them.

        The next step's gradient is of these rows. Row 0 of a table is padding, and never moves.
        """
        self._gathered = []
        if rows is None:
            self.settle()
            self._rows = None
            return
        self._rows = rows[1:] if len(rows) and rows[0] == 0 else rows
        missed = self._missed(self._rows)
        for table in self.tables:
            gathered = self._up_to_date(table, self._rows, missed)
            if missed is not None:
                table.index_copy_(0, self._rows, gathered[0])
            self._gathered.append(gathered)

    @torch.no_grad()
    def settle(self) -> None:
        """Bring all rows to where dense Adam has them now."""
        now, current = self.steps, self._common["current"]
        for rows in torch.nonzero((current > 0) & (current < now)).flatten().split(_AT_ONCE):  # type: ignore[no-untyped-call]
            missed = self._missed(rows)
            for table in self.tables:
                self._keep(table, rows, *self._up_to_date(table, rows, missed))
            current[rows] = now

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step; the rows that were read are those whose gradients count."""
        assert closure is None, "a step is computed once"
        super().step()
        now = self.steps + 1
        for number, table in enumerate(self.tables):
            state = self.state[table]
            if self._rows is None:
                self._adam(table, _dense(table), state["exp_avg"], state["exp_avg_sq"], now)
            else:
                weights, average, square = self._gathered[number]
                self._adam(weights, gradient_of_rows(table, self._rows), average, square, now)
                self._keep(table, self._rows, weights, average, square)
        self._common["current"][slice(None) if self._rows is None else self._rows] = now
        self._common["steps"].fill_(now)
        self._gathered = []
        self._momentum.after(now)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        super().zero_grad(set_to_none=set_to_none)
        for table in self.tables:
            table.grad = None

    def share_rows(self, share: Callable[[Tensor], None]) -> None:
        """Let `share` add up, in place, what workers that have read the same rows have found for them."""
        for table in self.tables:
            if self._rows is None:
                table.grad = _dense(table)
                share(table.grad)
            else:
                found = gradient_of_rows(table, self._rows)
                share(found)
                table.grad = torch.sparse_coo_tensor(
                    self._rows.unsqueeze(0), found, table.shape, is_coalesced=True, check_invariants=False
                )

    def _missed(self, rows: Tensor) -> "_Missed | None":
        """The steps that `rows` have not had yet; None where they have had all."""
        current, now = self._common["current"].index_select(0, rows), self.steps
        if len(rows) == 0 or int(current.min()) == now:
            return None
        return self._momentum.since(current, now)

    def _up_to_date(self, table: Tensor, rows: Tensor, missed: "_Missed | None") -> tuple[Tensor, Tensor, Tensor]:
        """Weights and both moments of `rows` as dense Adam has them now, [U, d] each."""
        state = self.state[table]
        weights, average, square = (
            kept.index_select(0, rows) for kept in (table, state["exp_avg"], state["exp_avg_sq"])
        )
        if missed is not None:
            root = square.sqrt().add_(missed.epsilon * self.defaults["eps"])
            weights.addcdiv_(average * missed.way, root, value=-self.defaults["lr"])
            average *= missed.first
            square *= missed.second
        return weights, average, square

    def _keep(self, table: Tensor, rows: Tensor, weights: Tensor, average: Tensor, square: Tensor) -> None:
        state = self.state[table]
        table.index_copy_(0, rows, weights)
        state["exp_avg"].index_copy_(0, rows, average)
        state["exp_avg_sq"].index_copy_(0, rows, square)

    def _adam(self, weights: Tensor, gradient: Tensor, average: Tensor, square: Tensor, step: int) -> None:
        """One step of Adam, in place."""
        beta1, beta2 = self.defaults["betas"]
        adam(
            *([weights], [gradient], [average], [square], []),
            [torch.tensor(float(step - 1), device=weights.device)],
            fused=True,
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=self.defaults["lr"],
            weight_decay=0.0,
            eps=self.defaults["eps"],
            maximize=False,
        )


class _Missed(NamedTuple):
    """What n steps without a gradient do to a row, [U, 1] each."""

    way: Tensor
    """The sum."""
    first: Tensor
    """β₁ⁿ."""
    second: Tensor
    """β₂ⁿ."""
    epsilon: Tensor
    """ε′ / ε."""


class _Momentum:
    """How far steps without a gradient carry a row, by the step that it is current at."""

    def __init__(self, beta1: float, beta2: float) -> None:
        self._beta1, self._beta2 = beta1, beta2
        self._now = 0
        self._sums = torch.zeros(2, _REMEMBERED, dtype=torch.float64)
        """Of the rows current at each step, up to now: the sum, and the same with each part times its ε′ / ε."""

    def after(self, now: int) -> None:
        """Add what step `now` does to rows current before it."""
        if now != self._now + 1:
            self._begin_at(now)
            return
        if self._sums.shape[1] <= now:
            self._sums = torch.cat([self._sums, torch.zeros_like(self._sums)], dim=1)
        self._add(now)

    def since(self, current: Tensor, now: int) -> _Missed:
        """What the steps after `current`, up to `now`, do."""
        if now != self._now:
            self._begin_at(now)
        at = current.long().cpu()
        age = (now - at).double()
        way, with_epsilon = self._sums[:, at]
        columns = (
            way,
            # Nothing, rather than too small for a float.
            torch.where(age < _REMEMBERED, torch.pow(self._beta1, age.clamp(max=_REMEMBERED)), 0.0),
            torch.pow(self._beta2, age),
            torch.where(age > 0, with_epsilon / way, 1.0),
        )
        return _Missed(*(column.float().to(current.device).unsqueeze(1) for column in columns))

    def _begin_at(self, now: int) -> None:
        """Compute everything anew, adding in the same order: a run that is resumed ends with the same bits."""
        self._sums = torch.zeros(2, max(_REMEMBERED, 2 * now), dtype=torch.float64)
        for step in range(1, now + 1):
            self._add(step)
        self._now = now

    def _add(self, step: int) -> None:
        first = max(0, step - _REMEMBERED)
        age = torch.arange(step - first, 0, -1, dtype=torch.float64)
        left1, left2 = 1 - self._beta1**step, 1 - self._beta2**step
        self._sums[0, first:step] += torch.pow(self._beta1 / self._beta2**0.5, age) * (left2**0.5 / left1)
        self._sums[1, first:step] += torch.pow(self._beta1 / self._beta2, age) * (left2 / left1)
        self._now = step


def gradient_of_rows(table: Tensor, rows: Int64[Tensor, " u"]) -> Float[Tensor, "u d"]:
    """The gradient of `rows`, ascending, which has to be of these rows alone."""
    gradient = table.grad
    if gradient is None:
        return table.new_zeros(len(rows), table.shape[1])
    assert gradient.is_sparse, "a gradient of some rows is sparse"
    if gradient._nnz() == len(rows):
        found, values = gradient._indices()[0], gradient._values()
        if torch.equal(found, rows):
            return values.contiguous()  # as the fused kernel takes it
    gradient = gradient.coalesce()
    values = table.new_zeros(len(rows), table.shape[1])
    return values.index_copy_(0, torch.searchsorted(rows, gradient.indices()[0]), gradient.values())


def _dense(table: Tensor) -> Tensor:
    gradient = table.grad
    if gradient is None:
        return torch.zeros_like(table)
    return gradient.to_dense() if gradient.is_sparse else gradient
