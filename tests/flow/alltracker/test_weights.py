"""Where weights are looked for, what loads, and what is said of what does not."""

import hashlib
import pickle
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from motive_fo.errors import InputError
from motive_fo.flow.alltracker import build_network
from motive_fo.flow.alltracker.weights import FILES, cache_folder, find_weights, load_weights
from tests.flow.alltracker.conftest import lively_state


@pytest.fixture(autouse=True)
def nothing_here(tmp_path, monkeypatch):
    """No weights of this machine, and a hub that is not there; the calls it got."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("MOTIVE_ALLTRACKER_WEIGHTS", "MOTIVE_ALLTRACKER_TINY_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return _hub(monkeypatch, lambda local: (_ for _ in ()).throw(OSError("no route to the hub\nmore")))


def _hub(monkeypatch, answer, endpoint="http://127.0.0.1"):
    calls = []

    def hf_hub_download(repo_id, filename, *, local_files_only=False):
        calls.append((repo_id, filename, local_files_only))
        return answer(local_files_only)

    module = ModuleType("huggingface_hub")
    module.hf_hub_download = hf_hub_download
    module.constants = SimpleNamespace(ENDPOINT=endpoint)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return calls


def _file(path, text="weights"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_path_given_comes_first_then_the_environment_then_the_cache(tmp_path, monkeypatch, nothing_here):
    given, named = _file(tmp_path / "given.pth", "a"), _file(tmp_path / "named.pth", "b")
    cached = _file(cache_folder() / FILES["tiny"], "c")
    monkeypatch.setenv("MOTIVE_ALLTRACKER_TINY_WEIGHTS", str(named))
    found = [find_weights("tiny", given), find_weights("tiny")]
    monkeypatch.delenv("MOTIVE_ALLTRACKER_TINY_WEIGHTS")
    found.append(find_weights("tiny"))
    assert [(w.path, w.origin) for w in found] == [(given, "path"), (named, "environment"), (cached, "cache")]
    assert [w.sha256 for w in found] == [hashlib.sha256(x).hexdigest() for x in (b"a", b"b", b"c")]
    assert found[0].sha256 in str(found[0])
    assert "not the official file" in str(found[0])
    assert nothing_here == []


def test_the_hubs_own_cache_is_asked_before_the_hub(tmp_path, monkeypatch):
    calls = _hub(monkeypatch, lambda local: str(_file(tmp_path / "snapshot.pth")))
    assert find_weights("full").origin == "cache"
    assert calls == [("aharley/alltracker", "alltracker.pth", True)]


def test_what_is_nowhere_is_downloaded(tmp_path, monkeypatch):
    def answer(local):
        if local:
            raise FileNotFoundError("not in the cache")
        return str(_file(tmp_path / "fetched.pth"))

    calls = _hub(monkeypatch, answer)
    assert find_weights("tiny").origin == "hub"
    assert calls == [("aharley/alltracker", "alltracker_tiny.pth", local) for local in (True, False)]


def test_without_a_network_one_sentence_says_what_to_do():
    with pytest.raises(InputError) as caught:
        find_weights("full")
    text = str(caught.value)
    assert "\n" not in text
    for part in ("no route to the hub", "alltracker.pth", str(cache_folder()), "MOTIVE_ALLTRACKER_WEIGHTS", "dis or f"):
        assert part in text


def test_a_hub_without_an_address_is_not_tried_for_half_a_minute(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    calls = _hub(monkeypatch, lambda local: (_ for _ in ()).throw(OSError("no file")), "https://hub.invalid")
    with pytest.raises(InputError, match="alltracker are not on this machine and it could not be downloaded"):
        find_weights("full")
    assert [local for *_, local in calls] == [True]


def test_looking_does_not_download(nothing_here):
    with pytest.raises(InputError, match="not on this machine: put"):
        find_weights("full", download=False)
    assert [local for *_, local in nothing_here] == [True]


def test_without_the_hubs_library_the_message_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r"pip install 'motive-fo\[alltracker\]'"):
        find_weights("tiny")


def test_a_named_file_that_is_missing_is_no_reason_to_take_another(tmp_path, monkeypatch):
    _file(cache_folder() / FILES["full"])
    with pytest.raises(InputError, match="is not there"):
        find_weights("full", tmp_path / "typo.pth")
    monkeypatch.setenv("MOTIVE_ALLTRACKER_WEIGHTS", str(tmp_path / "typo.pth"))
    with pytest.raises(InputError, match="MOTIVE_ALLTRACKER_WEIGHTS"):
        find_weights("full")


def _load(path, variant="tiny"):
    network = build_network(variant)
    load_weights(network, find_weights(variant, path))
    return network.state_dict()


_WRAPPINGS = {
    "plain": lambda state: state,
    "model": lambda state: {"model": state},
    "training": lambda state: {"model": state, "optimizer": {"lr": 1.0}, "step": 3},
    "parallel": lambda state: {"state_dict": {f"module.{name}": x for name, x in state.items()}},
    "compiled": lambda state: {f"_orig_mod.module.{name}": x for name, x in state.items()},
    "without time": lambda state: {"model": {name: x for name, x in state.items() if name != "time_emb"}},
    "half": lambda state: {"model": {name: x.half() for name, x in state.items()}},
}


@pytest.mark.parametrize("wrapping", _WRAPPINGS)
def test_checkpoints_as_they_are_found_load(tmp_path, wrapping):
    state = lively_state("tiny")
    torch.save(_WRAPPINGS[wrapping](state), tmp_path / "w.pth")
    loaded = _load(tmp_path / "w.pth")
    for name, tensor in state.items():
        expected = tensor.half().float() if wrapping == "half" else tensor
        assert torch.equal(loaded[name], expected), name


def test_safetensors_and_the_full_variant_load(tmp_path):
    state = lively_state("full")
    save_file({name: x.contiguous() for name, x in state.items()}, tmp_path / "w.safetensors")
    loaded = _load(tmp_path / "w.safetensors", "full")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def _save(path, change):
    state = lively_state("tiny")
    change(state)
    torch.save({"model": state}, path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("fnet.conv1.weight"), r"1 of \d+ tensors are missing \(fnet.conv1.weight\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 are not the network's \(extra\)"),
        (lambda s: s.update({"fnet.conv1.bias": torch.zeros(3)}), r"fnet.conv1.bias is \(3,\), not \(64,\)"),
        (lambda s: s["fnet.conv1.bias"].fill_(float("nan")), r"not finite \(fnet.conv1.bias\)"),
        (lambda s: s.update(note="x"), "other things than tensors: note"),
    ],
)
def test_a_file_that_does_not_fit_says_where(tmp_path, change, says):
    _save(tmp_path / "w.pth", change)
    with pytest.raises(InputError, match=says) as caught:
        _load(tmp_path / "w.pth")
    assert str(tmp_path / "w.pth") in str(caught.value)


def test_the_other_variant_is_recognised(tmp_path):
    torch.save({"model": lively_state("full")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"looks like weights of alltracker$") as caught:
        _load(tmp_path / "w.pth")
    assert len(str(caught.value)) < 700


class _Bomb:
    def __reduce__(self):
        return (print, ("it ran",))


def test_nothing_in_a_pickle_is_run(tmp_path, capsys):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"model": _Bomb()}, protocol=2))
    with pytest.raises(InputError, match="was not run"):
        _load(tmp_path / "w.pth")
    torch.save({"model": _Bomb()}, tmp_path / "w.pth")
    with pytest.raises(InputError, match="was not run"):
        _load(tmp_path / "w.pth")
    assert "it ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"", "cannot be read|no file"),
    ],
)
@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_what_is_no_file_of_weights_is_named(tmp_path, content, says, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        _load(tmp_path / name)


def test_a_truncated_file_is_refused(tmp_path):
    torch.save({"model": lively_state("tiny")}, tmp_path / "w.pth")
    whole = (tmp_path / "w.pth").read_bytes()
    (tmp_path / "w.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="cannot be read"):
        _load(tmp_path / "w.pth")
