"""Where the rows of a matrix lie in a container, and how chunks become blocks of rows again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from simio.codecs.base import Buffer
from simio.container.reading import Container
from simio.errors import ModelFileError
from simio.formats.execution_order import use_of
from simio.records.model import Tensor
from simio.runtime.matrices import Matrix, RowBlock, matrix_of


class Places:
    """Matrices by name with the chunks of their codes."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._tensors = {tensor.name: tensor for tensor in container.model.tensors}
        self._matrices: dict[str, Matrix] = {}
        self._codes: dict[tuple[str, int | None], list[int]] = {}

    @property
    def table(self) -> str:
        """The name of the token table; raises ``ModelFileError`` where there is none."""
        for name, tensor in self._tensors.items():
            if use_of(tensor) == "token_embd":
                return name
        raise ModelFileError(f"{self._container.path}: has no token table", "only Llama-like decoders can be run")

    def tensor(self, name: str) -> Tensor:
        """The tensor of that name."""
        return self._tensors[name]

    def matrix(self, name: str) -> Matrix:
        """How the tensor is multiplied; raises ``UsageError`` for a layout the kernels do not know."""
        if name not in self._matrices:
            self._matrices[name] = matrix_of(self._tensors[name])
        return self._matrices[name]

    def codes(self, name: str, expert: int | None) -> list[int]:
        """The chunks of a matrix's codes, in order; ``expert``: those of one of the stacked."""
        key = (name, expert)
        if key not in self._codes:
            codes, streams = self.matrix(name).codes, self._tensors[name].streams
            self._codes[key] = [
                number
                for piece in self._container.pieces_of(name)
                if piece.stream is not None and streams[piece.stream] == codes and expert in (None, piece.expert)
                for number in self._container.chunks_of(piece)
            ]
        return self._codes[key]

    def covering(self, name: str, start: int, n_bytes: int) -> tuple[list[int], int]:
        """The chunks that hold ``n_bytes`` from byte ``start`` of the codes, and what to skip of the first."""
        numbers = self.codes(name, None)
        ends = list(accumulate(self._container.index.table["raw_bytes"][numbers].tolist()))
        first, last = bisect_right(ends, start), bisect_right(ends, start + n_bytes - 1)
        return numbers[first : last + 1], start - (ends[first - 1] if first else 0)


def row_blocks(matrix: Matrix, arriving: Iterable[Sequence[Buffer]]) -> Iterator[list[RowBlock]]:
    """The blocks of ``matrix.row_spans`` out of chunks that arrive in groups; a part for every group.

    Blocks are views of the chunks; only the rows of a block whose other chunks have not come yet are copied.
    """
    spans = iter(matrix.row_spans())
    span = next(spans, None)
    left: list[memoryview] = []
    for group in arriving:
        left += map(memoryview, group)
        del group  # nothing that has been used is kept while the next chunks come
        there = sum(map(len, left))
        blocks: list[RowBlock] = []
        while span is not None and span[1] * matrix.row_bytes <= there:
            n_bytes = span[1] * matrix.row_bytes
            blocks.append(RowBlock(*span, _take(left, n_bytes)))
            there -= n_bytes
            span = next(spans, None)
        yield blocks
        del blocks
        left = [memoryview(b"".join(left))] if left else []


def _take(views: list[memoryview], n_bytes: int) -> tuple[memoryview, ...]:
    """The first ``n_bytes`` of ``views``, which lose them."""
    taken: list[memoryview] = []
    while n_bytes:
        head = views[0][:n_bytes]
        taken.append(head)
        n_bytes -= len(head)
        if len(head) == len(views[0]):
            views.pop(0)
        else:
            views[0] = views[0][len(head) :]
    return tuple(taken)
