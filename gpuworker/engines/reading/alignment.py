"""Which characters of two similar texts correspond: the cheapest way to edit one into the other."""

from typing import Final

#: How far the texts may be apart at any place, in characters, beside the difference of their lengths.
_BAND: Final = 24
_SAME, _DELETED, _INSERTED = 0, 1, 2


def align(one: str, other: str) -> dict[int, int]:
    """Positions in `other` to the positions in `one` of the equal characters that correspond.

    Takes some microseconds for each character: only edits that keep both texts near each other are tried.
    """
    band = _BAND + abs(len(one) - len(other))
    far = len(one) + len(other) + 1
    costs = {column: column for column in range(min(band, len(other)) + 1)}
    steps: list[dict[int, int]] = [dict.fromkeys(costs, _INSERTED)]
    for row in range(1, len(one) + 1):
        before, costs = costs, {}
        made: dict[int, int] = {}
        for column in range(max(0, row - band), min(len(other), row + band) + 1):
            is_equal = column > 0 and one[row - 1] == other[column - 1]
            ways = (
                before.get(column - 1, far) + (not is_equal) if column else far,
                before.get(column, far) + 1,
                costs.get(column - 1, far) + 1,
            )
            costs[column] = min(ways)
            made[column] = ways.index(costs[column])
        steps.append(made)
    found = {}
    row, column = len(one), len(other)
    while row or column:
        step = steps[row][column]
        if step == _SAME and one[row - 1] == other[column - 1]:
            found[column - 1] = row - 1
        row -= step != _INSERTED
        column -= step != _DELETED
    return found
