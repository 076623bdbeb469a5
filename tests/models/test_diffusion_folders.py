"""What may be named as a model, what is read for it, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from motive_fo import config
from motive_fo.clips.spec import ClipSpec
from motive_fo.config import AttributionConfig
from motive_fo.errors import ConfigError, InputError, MissingDependencyError
from motive_fo.models.diffusion import weights as weights_module
from motive_fo.models.registry import attributed_model, load_model, model_card
from tests.models import own_adapter
from tests.models.pipelines import edit_json

DEFAULTS = {
    "wan": ((4, 8, 8), "4n+1", 16, ClipSpec(0, 16, 81, 480, 832)),
    "wan-per-token": ((4, 16, 16), "4n+1", 32, ClipSpec(0, 24, 121, 704, 1280)),
    "ltx": ((8, 32, 32), "8n+1", 32, ClipSpec(0, 25, 161, 512, 704)),
    "cogvideox": ((4, 8, 8), "4n+1", 16, ClipSpec(0, 8, 9, 64, 64)),
    "cogvideox-pairs": ((4, 8, 8), "8n+5", 16, ClipSpec(0, 16, 13, 64, 64)),
    "hunyuanvideo": ((4, 8, 8), "4n+1", 16, ClipSpec(0, 24, 129, 720, 1280)),
}


@pytest.mark.parametrize("kind", DEFAULTS)
def test_cards_come_from_the_settings_files(pipeline_folder, kind):
    card = model_card(str(pipeline_folder(kind)))
    strides = (card.strides.time, card.strides.height, card.strides.width)
    assert (strides, str(card.frame_rule), card.size_multiple, card.default_clip) == DEFAULTS[kind]


def test_cards_need_neither_torch_nor_weights(own_pipeline):
    folders = []
    for kind in DEFAULTS:
        folder = own_pipeline(kind)
        for file in folder.rglob("*.safetensors"):
            file.unlink()
        folders.append(str(folder))
    program = (
        "import sys\nfrom motive_fo.models.registry import model_card\n"
        "for name in sys.argv[1:]: print(model_card(name).strides)\n"
        "print(sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert len(done.stdout.splitlines()) == len(DEFAULTS) + 1


def test_a_stride_in_the_settings_is_a_stride_of_the_card(own_pipeline):
    folder = own_pipeline("wan")
    edit_json(folder / "vae" / "config.json", temperal_downsample=[False, False, True])
    assert model_card(str(folder)).strides.time == 2
    edit_json(folder / "transformer" / "config.json", patch_size=[1, 4, 4])
    assert model_card(str(folder)).size_multiple == 32


# --- identity ---------------------------------------------------------------------------------------------------------


def test_identity_follows_weights_and_settings_not_places(own_pipeline, tmp_path):
    folder = own_pipeline("wan")
    before = load_model(str(folder), "cpu").identity()
    json.dumps(dict(before))
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert load_model(str(moved), "cpu").identity() == before
    part = moved / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    after = load_model(str(moved), "cpu").identity()
    assert {key for key in before if before[key] != after[key]} == {"network"}
    shutil.copytree(folder, moved, dirs_exist_ok=True)
    edit_json(moved / "vae" / "config.json", latents_mean=[0.1, -0.2, 0.3, 0.05])
    after = load_model(str(moved), "cpu").identity()
    assert {key for key in before if before[key] != after[key]} == {"video"}
    assert load_model(str(folder), "cpu", precision="bfloat16").identity() != before


def test_sums_of_large_files_are_kept_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(weights_module, "_WORTH_KEEPING", 4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"one one one")
    first = weights_module.digest_files([file])
    reads = []
    real = weights_module.hashlib.file_digest
    monkeypatch.setattr(weights_module.hashlib, "file_digest", lambda *a: reads.append(1) or real(*a))
    assert weights_module.digest_files([file]) == first
    assert reads == []
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    assert weights_module.digest_files([link]) == first
    assert reads == []
    file.write_bytes(b"two two two")
    os.utime(file, ns=(1, 1))
    assert weights_module.digest_files([file]) != first
    assert reads == [1]
    (tmp_path / "cache" / "motive-fo" / "weights.json").write_text("not json")
    assert weights_module.digest_files([link]) == weights_module.digest_files([file])


# --- what is refused --------------------------------------------------------------------------------------------------


def test_pickles_are_refused(own_pipeline):
    folder = own_pipeline("wan")
    part = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    part.rename(part.with_suffix(".bin"))
    model_card(str(folder))
    with pytest.raises(InputError, match=r"only as pickle.*safe_serialization"):
        load_model(str(folder), "cpu")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_missing_weights_are_said_before_anything_is_loaded(own_pipeline, part):
    folder = own_pipeline("wan")
    (file,) = (folder / part).glob("*.safetensors")
    file.unlink()
    with pytest.raises(InputError, match=f"{part} holds no weights"):
        load_model(str(folder), "cpu")


def test_a_missing_shard_is_named(own_pipeline):
    folder = own_pipeline("wan")
    stem = "diffusion_pytorch_model"
    (folder / "transformer" / f"{stem}.safetensors").rename(
        folder / "transformer" / f"{stem}-00001-of-00002.safetensors"
    )
    index = {"weight_map": {"a": f"{stem}-00001-of-00002.safetensors", "b": f"{stem}-00002-of-00002.safetensors"}}
    (folder / "transformer" / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"lacks diffusion_pytorch_model-00002-of-00002\.safetensors of its 2 files"):
        load_model(str(folder), "cpu")


def test_damaged_weights_are_explained(own_pipeline):
    folder = own_pipeline("wan")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:200])
    model = load_model(str(folder), "cpu")
    with pytest.raises(InputError, match="cannot be loaded as AutoencoderKLWan"):
        model.pipeline()


def test_foreign_code_and_foreign_pipelines_are_refused(own_pipeline, tmp_path):
    folder = own_pipeline("wan")
    edit_json(folder / "model_index.json", vae=["my_pipeline", "Vae"])
    with pytest.raises(InputError, match="never code that comes with weights"):
        load_model(str(folder), "cpu").identity()
    edit_json(folder / "model_index.json", _class_name="MochiPipeline")
    with pytest.raises(ConfigError, match=r"no adapter; there are adapters for WanPipeline, .*docs/models.md"):
        model_card(str(folder))
    (folder / "model_index.json").write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        model_card(str(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model_index.json: save or download the whole"):
        model_card(str(tmp_path / "empty"))
    with pytest.raises(InputError, match=r"name it after its base model, BASE\+"):
        model_card(str(folder / "transformer"))


def test_missing_packages_are_named(pipeline_folder, monkeypatch):
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else real(name))
    with pytest.raises(MissingDependencyError, match=r"need accelerate: pip install 'motive-fo\[diffusers\]'"):
        load_model(str(pipeline_folder("wan")), "cpu")


def test_cogvideox_that_predicts_something_else_is_refused(own_pipeline):
    folder = own_pipeline("cogvideox")
    edit_json(folder / "scheduler" / "scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(ConfigError, match="predicts 'epsilon'"):
        model_card(str(folder))


def test_a_hub_repository_that_is_not_here_names_the_way_out(monkeypatch):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"'Wan-AI/Wan2.1-T2V-1.3B-Diffusers' is no folder here.*hf download Wan-AI"):
        model_card("Wan-AI/Wan2.1-T2V-1.3B-Diffusers")


def test_a_hub_repository_in_the_cache_needs_no_network(pipeline_folder, tmp_path, monkeypatch):
    """Laid out as the hub's library keeps it: a snapshot of links."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repo = tmp_path / "models--someone--small-wan"
    snapshot = repo / "snapshots" / ("a" * 40)
    shutil.copytree(pipeline_folder("wan"), repo / "blobs")
    for file in (repo / "blobs").rglob("*"):
        if file.is_file():
            link = snapshot / file.relative_to(repo / "blobs")
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(file)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    model = load_model("someone/small-wan", "cpu")
    assert model.card.name == "someone/small-wan"
    assert model.identity() == load_model(str(pipeline_folder("wan")), "cpu").identity()
    (snapshot / "transformer" / "diffusion_pytorch_model.safetensors").unlink()  # only in part
    model_card("someone/small-wan")
    with pytest.raises(InputError, match="not whole in the Hugging Face cache"):
        load_model("someone/small-wan", "cpu")


# --- fine-tuned transformers ------------------------------------------------------------------------------------------


def test_a_fine_tuned_transformer_over_its_base(pipeline_folder, tmp_path):
    base = pipeline_folder("wan")
    tuned = load_model(str(base), "cpu")
    with torch.no_grad():
        tuned.network.proj_out.weight.mul_(1.01)
    for place in (tmp_path / "tuned", tmp_path / "run" / "transformer"):
        tuned.network.save_pretrained(place)
    plain = load_model(str(base), "cpu")
    for name in ("tuned", "run"):
        over = load_model(f"{base}+{tmp_path / name}", "cpu")
        assert torch.equal(over.network.proj_out.weight, tuned.network.proj_out.weight)
        assert over.identity()["network"] != plain.identity()["network"]
        assert over.identity()["video"] == plain.identity()["video"]
        assert over.encoder_identity() == plain.encoder_identity()  # so that encodings are shared
        assert model_card(f"{base}+{tmp_path / name}").strides == plain.card.strides
    with pytest.raises(InputError, match="there is no folder"):
        model_card(f"{base}+{tmp_path / 'none'}")
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="holds no transformer"):
        model_card(f"{base}+{tmp_path / 'other'}")
    experts = pipeline_folder("wan-experts")
    with pytest.raises(ConfigError, match="has two transformers"):
        model_card(f"{experts}+{tmp_path / 'tuned'}")
    over = load_model(f"{experts}+{tmp_path / 'run'}", "cpu", timesteps=(900.0,))
    assert torch.equal(over.network.proj_out.weight, tuned.network.proj_out.weight)


def test_names_mean_the_same_from_another_folder(pipeline_folder, tmp_path, monkeypatch):
    folder = pipeline_folder("wan")
    monkeypatch.chdir(folder.parent)
    assert AttributionConfig(model="wan").model == str(folder)
    assert AttributionConfig(model="wan+wan/transformer").model == f"{folder}+{folder / 'transformer'}"
    assert AttributionConfig(model="Wan-AI/some+wan/transformer").model == f"Wan-AI/some+{folder / 'transformer'}"
    assert AttributionConfig(model="tiny").model == "tiny"
    assert AttributionConfig(model="nowhere/some").model == "nowhere/some"
    (folder.parent / "run.yaml").write_text("dataset: x\nattribution: {model: wan}\n")
    monkeypatch.chdir(tmp_path)
    assert config.load(folder.parent / "run.yaml").attribution.model == str(folder)
    (folder.parent / "run.yaml").unlink()


# --- adapters of one's own --------------------------------------------------------------------------------------------


def test_an_adapter_of_ones_own_by_module_and_name():
    assert model_card("tests.models.own_adapter:Own") is own_adapter.Own.card
    model = attributed_model(
        AttributionConfig(model="tests.models.own_adapter:Own", device="cpu", precision="bfloat16")
    )
    assert isinstance(model, own_adapter.Own)
    assert model.asked == ("cpu", "bfloat16")
    with pytest.raises(InputError, match="is no adapter: it must have a ModelCard"):
        model_card("tests.models.own_adapter:no_card")
    with pytest.raises(InputError, match=r"cannot be imported \(AttributeError"):
        model_card("tests.models.own_adapter:Missing")
    with pytest.raises(InputError, match=r"cannot be imported \(ModuleNotFoundError.*PYTHONPATH"):
        model_card("no_such_module:Own")


def test_an_installed_adapter_by_its_entry_point(tmp_path, monkeypatch):
    info = tmp_path / "their_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-models\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[motive_fo.models]\ntheirs = tests.models.own_adapter:Own\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert model_card("theirs") is own_adapter.Own.card
    assert isinstance(load_model("theirs", "cpu"), own_adapter.Own)
    with pytest.raises(ConfigError, match="unknown model 'their': did you mean 'theirs'"):
        model_card("their")


def test_the_embedded_model_takes_no_other_precision():
    with pytest.raises(ConfigError, match="runs in float32"):
        load_model("tiny", "cpu", precision="bfloat16")
