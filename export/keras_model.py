"""The model itself, kept in the bundle as a kzoo run: for those who want to go on training it."""
from kzoo.export.target import Target


class KerasTarget(Target):
    """config.json and model.safetensors in `keras/`."""

    name = "keras"

    def write(self, model, folder, quantize="none"):
        from kzoo.saving import save

        self.check(quantize)
        save(model, folder / self.path())
        return sorted(path.relative_to(folder).as_posix() for path in (folder / self.path()).rglob("*")
                      if path.is_file())
