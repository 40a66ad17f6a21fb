"""A scene model is checked before it is believed, and its answers do not depend on company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.errors import ModelError
from pipeline.inference.manifest import read_manifest
from pipeline.inference.scene import SceneModel, load_scene_files
from pipeline.inference.scene_manifest import SceneManifest, read_scene_manifest, scene_manifest_yaml
from pipeline.inference.store import load_model
from tests.inference import networks
from tests.inference.scene_networks import encoder, head, scene_model, told


def _pictures(n: int, height: int = 24, width: int = 30) -> list[Any]:
    return list(np.random.default_rng(n).integers(0, 256, (n, height, width, 3), dtype=np.uint8))


def test_features_scores_and_attention_of_a_clip(tmp_path: Path) -> None:
    model = SceneModel(scene_model(tmp_path))
    pictures = _pictures(16)
    features = model.encode(pictures)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, [picture.mean(axis=(0, 1)) / 255 for picture in pictures], rtol=1e-5)
    scores, attention = model.score(features)
    assert list(scores) == ["fight", "fall"]
    assert scores["fight"] == pytest.approx(features[:, 0].mean(), rel=1e-5)
    assert len(attention) == 16
    assert sum(attention) == pytest.approx(1)
    assert int(np.argmax(attention)) == int(np.argmax(features[:, 0]))


def test_a_picture_gives_the_same_bytes_in_any_company(tmp_path: Path) -> None:
    model = SceneModel(scene_model(tmp_path))
    pictures = _pictures(11)
    together = model.encode(pictures)
    alone = np.concatenate([model.encode([picture]) for picture in pictures])
    assert together.tobytes() == alone.tobytes()
    assert model.encode([]).shape == (0, 3)


def test_attention_to_steps_is_that_of_their_later_frames(tmp_path: Path) -> None:
    model = SceneModel(scene_model(tmp_path, head_data=head(steps=True)))
    _, attention = model.score(model.encode(_pictures(16)))
    assert len(attention) == 16
    assert attention[0] == 0
    assert min(attention[1:]) > 0
    assert sum(attention) == pytest.approx(1)


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    files = scene_model(tmp_path)
    again = tmp_path / "again.yaml"
    again.write_text(scene_manifest_yaml(files.manifest), encoding="utf-8")
    assert read_scene_manifest(again) == files.manifest
    assert files.manifest.kinds["fight"].clips == 2
    assert files.manifest.kinds["fall"].person_score == 0.35


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "detection"}, "its task is detection"),
        ({"schema": 2}, "schema: 2 is not known"),
        ({"kinds": {}}, "kinds"),
        ({"kinds": {"fight": {"begin": 0.5}}}, r"kinds.fight.begin: unknown key.*(did you mean|known here)"),
        ({"kinds": {"fight": {"start": 0.5, "end": 0.7}}}, r"kinds.fight: end \(0.7\) is above start \(0.5\)"),
        ({"kinds": {"Fight!": {"start": 0.5}}}, "kinds"),
        ({"clip": {"frames": 16, "stride": 17, "interval_s": 0.1}}, "stride.*is above frames"),
        ({"clip": {"frames": 16, "strides": 8, "interval_s": 0.1}}, "clip.strides: unknown key.*did you mean stride?"),
        ({"crop": {"rule": "persons"}}, "crop.rule: .*persons_motion"),
        ({"head": {"file": "encoder.onnx", "input": "f", "scores": "s", "attention": "a", "sha256": "0" * 64}},
         "same file"),
        ({"encoder": {"sha256": "0" * 64}}, "encoder.input: is missing"),
        ({"surprise": 1}, "surprise: unknown key"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_manifest_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "manifest.yaml"
    path.write_text(yaml.safe_dump(told(b"", b"") | changes), encoding="utf-8")
    with pytest.raises(ModelError, match=said) as raised:
        read_scene_manifest(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_files_that_are_not_those_of_the_manifest_are_refused(tmp_path: Path) -> None:
    scene_model(tmp_path)
    data = (tmp_path / "head.onnx").read_bytes()
    (tmp_path / "head.onnx").write_bytes(data[:-40])
    with pytest.raises(ModelError, match=r"head.onnx: is cut short"):
        load_scene_files(tmp_path)
    (tmp_path / "head.onnx").write_bytes(head(factor=0.5))
    with pytest.raises(ModelError, match=r"head.onnx: its sha256 is"):
        load_scene_files(tmp_path)
    (tmp_path / "head.onnx").unlink()
    with pytest.raises(ModelError, match="no such file"):
        load_scene_files(tmp_path)


def test_a_network_with_weights_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="keeps weights in another file"):
        scene_model(tmp_path, encoder_data=networks.with_external_weights("../../secret"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"encoder_data": head()}, "the encoder's input is not pictures"),
        ({"head_data": encoder()}, "the head's input is not features"),
        ({"encoder_data": networks.answering({"features": np.zeros(3, np.float32)}, name="pictures")},
         "the encoder's input is not pictures, 4 axes of uint8"),
        ({"head_data": head(factor=4.0)}, "scores are not 0..1"),
        ({"kinds": {"fight": {"start": 0.5}}}, "the head gives 1x2, not 1x1, one score a kind"),
    ],
)  # fmt: skip
def test_networks_that_are_not_what_the_manifest_says_are_refused(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    files = scene_model(tmp_path, **given)
    with pytest.raises(ModelError, match=said):
        SceneModel(files)


def test_a_size_that_is_not_the_manifests_is_told(tmp_path: Path) -> None:
    spec = told(encoder(), head())["encoder"] | {"size": 4}
    with pytest.raises(ModelError, match=r"the head takes .*1xtimex3, the manifest's clips are 1x16x4"):
        SceneModel(scene_model(tmp_path, encoder=spec))


def test_a_scene_model_is_no_detector_and_a_detector_no_scene_model(tmp_path: Path) -> None:
    scene_model(tmp_path / "scene")
    with pytest.raises(ModelError, match="is a scene model"):
        load_model(tmp_path / "scene")
    with pytest.raises(ModelError, match="is a scene model"):
        read_manifest(tmp_path / "scene" / "manifest.yaml")
    networks.convolving_model(tmp_path / "detector")
    with pytest.raises(ModelError, match="looks at single pictures"):
        load_scene_files(tmp_path / "detector")


def test_the_provenance_is_of_the_manifest_which_names_both_networks(tmp_path: Path) -> None:
    first = scene_model(tmp_path / "a")
    second = scene_model(tmp_path / "b", head_data=head(factor=0.5))
    assert first.sha256 != second.sha256
    assert SceneModel(first).provenance.model_sha256 == first.sha256
    assert isinstance(first.manifest, SceneManifest)
