"""TensorBoard logs, by the tensorboard package, which needs no TensorFlow."""
import time


def import_tensorboard():
    """What is used of the package. Raises ImportError that says what to do if it is not installed."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise ImportError("TensorBoard logs need the tensorboard package: pip install tensorboard, "
                          "or leave out `logdir`.") from error
    return event_pb2, summary_pb2, EventFileWriter


class EventFile:
    """One log file in `folder`, for one process.

    Args:
        folder: the log directory; made when needed.
        step: the step this process starts from; TensorBoard then drops what an interrupted one logged after it.

    Raises: ImportError if the tensorboard package is not installed.
    """

    def __init__(self, folder, step=0):
        event_pb2, summary_pb2, EventFileWriter = import_tensorboard()
        self._events, self._summaries = event_pb2, summary_pb2
        self._writer = EventFileWriter(str(folder))
        # TensorBoard drops what it has from the step of a start on.
        self._add(step + 1, session_log=event_pb2.SessionLog(status=event_pb2.SessionLog.START))

    def scalars(self, step, values):
        """Log name -> float at `step`; None values are left out."""
        rows = [self._summaries.Summary.Value(tag=tag, simple_value=value)
                for tag, value in values.items() if value is not None]
        self._add(step, summary=self._summaries.Summary(value=rows))

    def close(self):
        self._writer.close()

    def _add(self, step, **content):
        self._writer.add_event(self._events.Event(step=step, wall_time=time.time(), **content))
        self._writer.flush()
