"""Equal models are equal files, whatever the process did before, and wherever on the disk it
worked.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from twinspire_core.contracts.model_bundle import canonicalise

ROOT = Path(__file__).parents[3]
NAMES = ("colours", "shapes")


class Toy(tf.Module):
    """A model with what a tower has: tables of vocabularies, weights, a captured constant,
    functions in functions.
    """

    def __init__(self, home: Path, weight: float = 2.0) -> None:
        super().__init__()
        self.tables = {name: self._table(home / name) for name in NAMES}
        self.weight = tf.Variable([weight, 3.0])
        self.shift = tf.constant(0.5)

    @staticmethod
    def _table(file: Path) -> tf.lookup.StaticHashTable:
        whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        lines = tf.lookup.TextFileInitializer(str(file), tf.string, whole, tf.int64, number)
        return tf.lookup.StaticHashTable(lines, -1)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name) for name in NAMES])
    def serve(self, colours, shapes):
        rows = self.tables["colours"].lookup(colours) + 10 * self.tables["shapes"].lookup(shapes)
        x = tf.cast(rows, tf.float32) * self.weight[0] + self.shift
        return {"vector": tf.cond(tf.size(x) > 2, lambda: x + self.weight[1], lambda: -x)}


def save(home: Path, weight: float = 2.0) -> Path:
    """Exports a toy whose vocabularies lie in `home`; its folder."""
    home.mkdir(parents=True)
    (home / "colours").write_text("red\ngreen\n")
    (home / "shapes").write_text("round\nflat\nlong\n")
    toy = Toy(home, weight)
    tf.saved_model.save(toy, str(home / "model"), signatures={"serving_default": toy.serve})
    return home / "model"


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def ask(folder: Path, rows: int) -> np.ndarray:
    call = tf.saved_model.load(str(folder)).signatures["serving_default"]
    asked = {"colours": ["green", "red", "blue"], "shapes": ["flat", "long", "round"]}
    return call(**{name: tf.constant(values[:rows]) for name, values in asked.items()})[
        "vector"
    ].numpy()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, Path]:
    """A model as TensorFlow wrote it, and made canonical."""
    home = tmp_path_factory.mktemp("here")
    written = save(home / "first")
    shutil.copytree(written, home / "canonical")
    canonicalise(home / "canonical")
    return written, home / "canonical"


def test_the_same_model_is_the_same_files_from_another_process_and_place(saved, tmp_path):
    """A process that has traced functions before, and orders its sets otherwise."""
    code = (
        "import sys; from pathlib import Path\n"
        "import tensorflow as tf\n"
        "from tests.twinspire_core.contracts import test_canonical_saved_model as toys\n"
        "for n in range(3): tf.function(lambda x: x + n).get_concrete_function(tf.TensorSpec([]))\n"
        "toys.canonicalise(toys.save(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "elsewhere/deeper")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    there = files(tmp_path / "elsewhere/deeper/model")
    assert there == files(saved[1])
    assert not any(str(tmp_path.parent).encode() in data for data in there.values()), (
        "no place of the exporter's disk"
    )


def test_other_weights_are_other_files(saved, tmp_path):
    other = save(tmp_path / "other", weight=2.5)
    canonicalise(other)
    assert {name for name, data in files(other).items() if data != files(saved[1])[name]} == {
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }


def test_it_computes_what_it_did(saved):
    """By hand: rows 11, 20 and -1, times 2, plus a half; three of them plus 3, two of them
    negated.
    """
    for folder in saved:
        np.testing.assert_allclose(ask(folder, 3), [25.5, 43.5, 1.5])
        np.testing.assert_allclose(ask(folder, 2), [-22.5, -40.5])


def test_two_copies_keep_their_own_tables(saved):
    """Tables go by equal names now; a copy that is let go does not take the other's along."""
    import gc

    first, second = (tf.saved_model.load(str(saved[1])) for _ in range(2))
    del first
    gc.collect()
    asked = {"colours": tf.constant(["red"]), "shapes": tf.constant(["flat"])}
    np.testing.assert_allclose(second.signatures["serving_default"](**asked)["vector"], [-20.5])
