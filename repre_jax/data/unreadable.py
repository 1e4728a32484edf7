"""Records that could not be read and were replaced: each is named once, and too many end the run."""

from collections.abc import Callable, Iterable

from repre_jax.core import passing
from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops, label_maps
from repre_jax.data.views import VALUE_RANGE

SHOWN = 50  # names in the message that ends a run
MENDED = "readable now"  # in place of a reason


class Unreadable:
    """To be called with the number of each record that was replaced."""

    def __init__(
        self,
        source: Records,
        channels: int,
        largest_share: float,
        say: Callable[[str], None],
        known: Iterable[int] = (),
    ):
        """largest_share: of the records, 0..1, beyond which the run ends. say: prints a line. known: numbers of those
        that earlier starts of the run have named; they are read again, and those that have been mended since count no
        more."""
        self.source, self.channels, self.largest_share, self.say = source, channels, largest_share, say
        lines = {number: what_is_wrong(source, number, channels) for number in known if number < len(source)}
        self._lines = {number: line for number, line in lines.items() if not line.endswith(f": {MENDED}")}
        if mended := len(lines) - len(self._lines):
            say(f"Records that could not be read before and are readable now, so that they count no more: {mended:,}.")

    @property
    def numbers(self) -> list[int]:
        """Of the records named so far."""
        return list(self._lines)

    def __call__(self, number: int) -> None:
        """Raises UserError once there are too many."""
        if number in self._lines:
            return
        self._lines[number] = what_is_wrong(self.source, number, self.channels)
        self.say(f"Warning: another record took the place of {self._lines[number]}")
        if len(self) > self.largest_share * len(self.source):
            lines = "".join(f"\n  {line}" for line in list(self._lines.values())[:SHOWN])
            raise UserError(
                f"{len(self):,} of {len(self.source):,} records could not be read.{lines}\n"
                f"  expected: at most {self.largest_share:g} of all, data.max_unreadable\n"
                "  change:   mend or replace them under the same names, and give the same command again; or\n"
                "            --config.data.max_unreadable to a larger share; or delete them, and --workdir to another\n"
                "            folder, since that makes it another data set"
            )

    def __len__(self) -> int:
        return len(self._lines)


def what_is_wrong(source: Records, number: int, channels: int) -> str:
    """A record's name, and why it cannot be read, as a line for a message.

    Raises UserError where that is not the record's fault (core/passing.py).
    """
    name: str | bytes = f"record {number}"
    try:
        record = source[number]
        name = record.get("file_name", name)
        crops.decode(record["image"], channels, record.get(VALUE_RANGE))
        if isinstance(record.get("label_map"), bytes):
            label_maps.read(record["label_map"])
        reason = MENDED  # or a disk that fails now and then
    except (crops.UnreadableImage, OSError, MemoryError) as error:
        passing.check(error, f"{_text(name)} cannot be read", passing.WORKERS)
        reason = str(error).splitlines()[0]
    return f"{_text(name)}: {reason}"


def _text(name: str | bytes) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else name
