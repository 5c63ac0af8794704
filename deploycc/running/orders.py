"""What the driver is to do with a package, and the text that tells it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Dump:
    """A tensor to copy once step ``step`` of the first run has written it: ``kind`` is arena or output."""

    step: int
    kind: str
    index: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class Orders:
    """``warmup`` runs whose time nobody asks for (there is always one), then ``runs`` timed ones.

    ``threads`` counts the calling thread.  ``cpus``: it is pinned to the first, the workers to the rest; with
    none nothing is pinned.  With ``steps`` each step is timed: each of the ``runs`` is followed by one more
    whose steps are timed, by the package's own timers where it has them; with ``seconds`` above 0 there
    are fewer runs, but five, once they took so long together.  With ``serve`` the program then waits to be
    asked for more (``Session.ask``).

    Of a package for GPUs: with ``device`` its runs read and write the GPU's memory, in a stream of their own;
    with ``plain`` their steps are launched one by one, not as a graph; with ``probe`` nothing is run, the
    program only tells which GPU it would be.
    """

    threads: int = 1
    cpus: tuple[int, ...] = ()
    warmup: int = 1
    runs: int = 0
    steps: bool = False
    seconds: float = 0.0
    serve: bool = False
    dumps: tuple[Dump, ...] = ()
    device: bool = False
    plain: bool = False
    probe: bool = False

    def text(self, library: str) -> str:
        """``orders.txt``; ``library`` is the shared library's path, empty where it is linked in."""
        lines = [f"library {library}"] if library else []
        lines += [f"threads {self.threads}", f"warmup {self.warmup}", f"runs {self.runs}"]
        if self.cpus:
            lines.append(f"cpus {' '.join(map(str, self.cpus))}")
        lines += [f"seconds {self.seconds:g}"] * (self.seconds > 0)
        lines += ["steps"] * self.steps + ["serve"] * self.serve
        lines += ["device"] * self.device + ["plain"] * self.plain + ["probe"] * self.probe
        lines += [
            f"dump {dump.step} {dump.kind} {dump.index} {dump.offset} {dump.nbytes}"
            for dump in self.ordered_dumps()
        ]
        return "\n".join(lines) + "\n"

    def ordered_dumps(self) -> tuple[Dump, ...]:
        """The dumps in the order in which ``dump.bin`` has them."""
        return tuple(sorted(self.dumps, key=lambda dump: dump.step))
