"""The shipped scene model on real clips."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from pipeline.inference.scene import SceneModel, load_scene_files  # noqa: E402
from training.scene.data import DATA, read_scene_data  # noqa: E402
from training.scene.session import Place, prepare  # noqa: E402

pytestmark = pytest.mark.shared


def test_the_data_file_names_what_is_there(shared: Path) -> None:
    data = read_scene_data(DATA, shared)
    made = data.labelled("fight")
    assert len(made) == 200
    assert sum("fight" in each.kinds for each in made) == 100
    assert len({each.scene for each in made}) == 122
    assert len(data.labelled("fall")) == 14
    cameras = {each.scene for each in data.ordinary}
    assert len(data.ordinary) == 38
    assert len(cameras) == 10  # the jam camera's 29 clips are one scene


def test_the_shipped_model_parts_clips_it_was_trained_on(shared: Path, tmp_path: Path) -> None:
    """Not how good it is (see its card): that files, crop rule and networks belong together."""
    prepared = prepare(Place(root=shared, cache=tmp_path))
    model = SceneModel(load_scene_files("passerby-scene"))
    made = prepared.data.labelled("fight")
    fights = [each for each in made if each.kinds][:4]
    others = [each for each in made if not each.kinds][:4]
    means = []
    for clips in (fights, others):
        found = [each for each in prepared.extractor.extract(clips, show=False) if len(each.starts_us)]
        means.append(sum(model.score(each.features[0])[0]["fight"] for each in found) / len(found))
    assert means[0] > means[1] + 0.2
