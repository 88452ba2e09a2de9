"""Which columns of a table a task reads: by header name, by position, or as they are usually called."""
from kzoo.errors import closest, unknown


def parse_columns(columns, roles):
    """role -> tuple of column names and positions.

    Args:
        columns: "text=sentence,label=2", or a dict {"text": "sentence", "label": 2}; positions count from 1. "+" joins
            columns: "text=title+description". A role that is left out is the name of its column. None stays None.
        roles: the task's.
    """
    if columns is None:
        return None
    if not roles:
        raise ValueError(f"`columns` is for files with columns, which this task does not read. Received: {columns!r}.")
    if isinstance(columns, str):
        parts = [part.partition("=") for part in columns.split(",")]
        columns = {role.strip(): name.strip() for role, _, name in parts}
    result = {role: (role,) for role in roles}
    for role, names in columns.items():
        if role not in roles:
            raise ValueError(unknown("column role", role, roles))
        result[role] = tuple(_column(role, name) for name in (
            [part.strip() for part in names.split("+")] if isinstance(names, str) else [names]))
    return result


def has_names(columns):
    """Whether columns are asked for by name, so that the file must have a header."""
    return columns is not None and any(isinstance(name, str) for chosen in columns.values() for name in chosen)


def find_columns(path, cells, roles, columns):
    """Where in the rows of a file the roles stand.

    Args:
        path: the file, for errors.
        cells: its first row.
        roles: the task's.
        columns: as `parse_columns` gives them. None: the header has the roles' names, or there is no header and one
            column a role, in this order.

    Returns: (role -> indices of cells, whether the first row is a header).
    Raises: ValueError naming the file and the column that is not there.
    """
    names = [cell.strip() for cell in cells]
    option = "`columns` (--columns)"
    if columns is None:
        lowered = [name.lower() for name in names]
        found = [role for role in roles if role in lowered]
        if len(found) == len(roles):
            return {role: (lowered.index(role),) for role in roles}, True
        if found:
            missing = next(role for role in roles if role not in found)
            raise ValueError(f"{path}, line 1 looks like a header ({', '.join(names)}) without a column "
                             f"{missing!r}. Say with {option} which it is, for example "
                             f"{missing}=NAME.")
        if len(names) == len(roles):
            return {role: (index,) for index, role in enumerate(roles)}, False
        raise ValueError(f"{path}, line 1 has {len(names)} column{'s' * (len(names) != 1)} and no header with "
                         f"{' and '.join(roles)}. Say with {option} which they are, by name or by position from 1, for "
                         f"example {','.join(f'{role}={index}' for index, role in enumerate(roles, 1))}.")
    result = {}
    for role, chosen in columns.items():
        for name in chosen:
            if isinstance(name, str) and name not in names:
                raise ValueError(f"{path}, line 1 is the header, and {closest('column', name, names)} It names: "
                                 f"{', '.join(names)[:200]}.")
            if not isinstance(name, str) and name > len(names):
                raise ValueError(f"{path}, line 1 has {len(names)} columns; {option} asks for number {name} as "
                                 f"{role!r}.")
        result[role] = tuple(names.index(name) if isinstance(name, str) else name - 1 for name in chosen)
    return result, has_names(columns)


def _column(role, name):
    if isinstance(name, str) and name and not name.isdecimal():
        return name
    if isinstance(name, (int, str)) and not isinstance(name, bool) and str(name).isdecimal() and int(name) >= 1:
        return int(name)
    raise ValueError(f"`columns` must say a name or a position from 1 for {role!r}, as in {role}=1. "
                     f"Received: {name!r}.")
