"""Bad rows: refused together, or counted and told of; never dropped silently."""
from kzoo.training.progress import note

SHOWN = 3
ENOUGH = 100  # a file with so many is of another kind; reading on would tell nothing


class Faults:
    """Bad rows: refused together, or counted and told of.

    Args:
        skip: leave bad rows out instead of refusing them.
    """

    def __init__(self, skip=False):
        self.skip = skip
        self.count = 0
        self._first = []

    def add(self, place, fault):
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append((place, fault))
        if not self.skip and self.count == ENOUGH:
            self.settle()

    def settle(self, good=1):
        """Say what was found.

        Args:
            good: how many rows are left.

        Raises: ValueError naming file, line and what was expected if there are bad rows that may not be skipped, or
            nothing but bad rows.
        """
        if not self.count:
            return
        told = [f"{place}: {fault}" for place, fault in self._first]
        if self.skip and good:
            more = f" (and {self.count - len(told)} more)" if self.count > len(told) else ""
            note(f"Skipped {self.count:,} bad row{'s' * (self.count > 1)}: {'; '.join(told)}{more}.")
            return
        others = ""
        if self.count > 1:
            rows = "row is" if self.count == 2 else "rows are" if self.count < ENOUGH else "or more rows are"
            others = f" {self.count - 1:,} other {rows} bad, too, the next: {told[1]}."
        advice = "No row is left." if self.skip else ("Correct them, or leave them out with skip_bad_rows=True "
                                                      "(--skip-bad-rows).")
        raise ValueError(f"{told[0]}.{others} {advice}")
