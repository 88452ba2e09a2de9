"""The answers of `kzoo run`, for people."""
import numbers

from kzoo.cli.output import print_table

SHOWN = 8  # numbers of a vector


def print_answers(texts, answers):
    """One answer after the other; where one takes several lines, its text stands above it if there are several.

    Args:
        texts: what was asked.
        answers: as a model gives them: a text, a dict, a list of dicts, or a vector.
    """
    for index, (text, found) in enumerate(zip(texts, answers, strict=True)):
        rows = found if _is_table(found) else None
        if rows is None:
            print(one_line(found))
            continue
        if len(texts) > 1:
            print(f"{'' if not index else chr(10)}{text}")
        print_rows(rows)


def one_line(found):
    """A text as it is, a label or an answer with its score, a vector by its first numbers."""
    if isinstance(found, str):
        return found
    if isinstance(found, dict):
        if "scores" in found:
            others = sorted(found["scores"].items(), key=lambda pair: -pair[1])[1:4]
            return "  ".join([f"{found['label']} {found['score']:.4f}", *(f"({label} {score:.4f})"
                                                                          for label, score in others)])
        place = f"  {found['start']}-{found['end']}" if "start" in found else ""
        return f"{found['answer']}  {found['score']:.4f}{place}"
    vector = [float(value) for value in found]
    more = f" ... ({len(vector)} numbers; --json prints all)" if len(vector) > SHOWN else ""
    return " ".join(f"{value:.4f}" for value in vector[:SHOWN]) + more


def print_rows(rows):
    """Spans or tokens as a table."""
    if not rows:
        print("(nothing found)")
        return
    if isinstance(rows[0], list):  # several masks
        for number, each in enumerate(rows, 1):
            print(f"mask {number}")
            print_rows(each)
        return
    names = [name for name in rows[0] if name != "text" or "token" not in rows[0]]
    columns = [f"{name}>" if isinstance(rows[0][name], numbers.Number) else name for name in names]
    print_table(columns, [[row[name] for name in names] for row in rows])


def _is_table(found):
    return isinstance(found, list) and (not found or isinstance(found[0], (dict, list)))
