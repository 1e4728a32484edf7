"""Records that could not be read and were replaced: each is named once, and too many end the run."""

from collections.abc import Callable, Iterable

from repre_jax.core.errors import UserError
from repre_jax.core.types import Records
from repre_jax.data import crops
from repre_jax.data.views import VALUE_RANGE

SHOWN = 50  # names in the message that ends a run


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
        that earlier starts of the run have named."""
        self.source, self.channels, self.largest_share, self.say = source, channels, largest_share, say
        self._lines = {number: self._what_is_wrong(number) for number in known}

    @property
    def numbers(self) -> list[int]:
        """Of the records named so far."""
        return list(self._lines)

    def __call__(self, number: int) -> None:
        """Raises UserError once there are too many."""
        if number in self._lines:
            return
        self._lines[number] = self._what_is_wrong(number)
        self.say(f"Warning: another record took the place of {self._lines[number]}")
        if len(self) > self.largest_share * len(self.source):
            lines = "".join(f"\n  {line}" for line in list(self._lines.values())[:SHOWN])
            raise UserError(
                f"{len(self):,} of {len(self.source):,} records could not be read.{lines}\n"
                "  change:   the data, or --config.data.max_unreadable to a larger share of the records"
            )

    def _what_is_wrong(self, number: int) -> str:
        name: str | bytes = f"record {number}"
        try:
            record = self.source[number]
            name = record.get("file_name", name)
            crops.decode(record["image"], self.channels, record.get(VALUE_RANGE))
            reason = "readable now"  # a disk that fails now and then
        except (crops.UnreadableImage, OSError) as error:
            reason = str(error).splitlines()[0]
        return f"{name.decode(errors='replace') if isinstance(name, bytes) else name}: {reason}"

    def __len__(self) -> int:
        return len(self._lines)
