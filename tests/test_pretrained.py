"""Claims about the pretrained language model and the reader; uses the real, checked weights."""

import dataclasses
import time

import pytest
import torch

from drivebyword.model import pretrained
from drivebyword.model.language import take
from drivebyword.model.reader import Reader, ReaderConfig
from drivebyword.model.weights import open_weights


@pytest.fixture(scope="module")
def folder():
    return pretrained.fetch()


@pytest.fixture(scope="module")
def reader(folder):
    return Reader.pretrained()


@pytest.fixture(scope="module")
def exact(folder):
    """The model as the GGUF file gives it, before it is stored in half precision, and what of it was taken."""
    return take(open_weights(folder / pretrained.GGUF_NAME))


@pytest.mark.slow
def test_our_decoder_with_the_weights_is_the_library_model(folder, exact):
    from transformers import AutoConfig, LlamaForCausalLM
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    theirs = LlamaForCausalLM(AutoConfig.from_pretrained(folder, gguf_file=pretrained.GGUF_NAME)).eval()
    read = load_gguf_checkpoint(str(folder / pretrained.GGUF_NAME), return_tensors=True, model_to_load=theirs)
    missing, unexpected = theirs.load_state_dict(read["tensors"], strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    ours, report = exact
    assert ours.decoder.config == pretrained.SMOLLM2 and ours.head is None
    assert not report.new and not report.left and report.numbers["taken"] + report.numbers["reshaped"] == 134_515_008
    ids = torch.tensor([ours.encode("At the next junction turn left, then stop behind the 2 red vans.")])
    with torch.no_grad():
        hidden = theirs(ids, output_hidden_states=True).hidden_states
        logits = theirs(ids).logits
    for layer in (0, 1, 12, 29):
        torch.testing.assert_close(ours.states(ids, layer), hidden[layer], atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(ours.logits(ids), logits, atol=1e-4, rtol=0.0)
    told = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
    assert torch.equal(ours.continued(ids, told.shape[1] - ids.shape[1]), told[:, ids.shape[1] :])


@pytest.mark.slow
def test_our_tokenizer_cuts_like_the_library_one(folder):
    from transformers import AutoTokenizer

    from drivebyword.tokens.grammar import all_wordings

    theirs = AutoTokenizer.from_pretrained(folder, gguf_file=pretrained.GGUF_NAME)
    ours = pretrained.load(1, folder)
    sentences = [sentence for sentence, _ in all_wordings("test")[::9]] + ["I'd go 120 km/h, don't  you?\n OK"]
    for sentence in sentences:
        assert ours.encode(sentence) == theirs(sentence, add_special_tokens=False)["input_ids"], sentence


def test_half_precision_storage_changes_the_states_little(folder, exact):
    model = pretrained.load(4, folder)
    whole, _ = exact
    ids = torch.tensor([model.encode("turn left at the lights")])
    torch.testing.assert_close(model.states(ids, 4), whole.states(ids, 4), atol=0.05, rtol=0.01)


def test_the_reader_starts_within_three_seconds(folder):
    started = time.process_time()
    fresh = Reader.pretrained()
    assert fresh.read("turn left").why_not is None
    assert time.process_time() - started < 3.0


def test_a_sentence_gives_one_state_per_piece_and_a_suffix_one_for_the_whole(reader):
    states = reader.read("turn left at the next crossing").states
    assert states.shape == (len(reader.pieces("turn left at the next crossing")), 576)
    assert states.dtype == torch.float16 and states.isfinite().all()
    summed = Reader(dataclasses.replace(reader.config, layer=2, suffix=" So"))
    assert len(summed.read("go on").states) == len(summed.pieces("go on")) == len(reader.pieces("go on")) + 1
    assert reader.read("please " * 28).states.shape[0] == reader.config.max_pieces


def test_single_words_with_other_meanings_look_different(reader):
    left, right, stop = (reader.read(word).states[0].float() for word in ("left", "right", "stop"))
    assert torch.cosine_similarity(left, right, dim=0) < 0.9
    assert torch.cosine_similarity(left, stop, dim=0) < 0.9


def test_reading_many_pads_nothing_into_the_states(reader, tmp_path, monkeypatch):
    monkeypatch.setenv("DRIVEBYWORD_CACHE", str(tmp_path))
    sentences = ["stop", "turn right at the second set of lights, please", "", "go on"]
    states, mask = reader.encode_all(sentences)
    assert mask.sum(1).tolist() == [len(reader.read(s).states) for s in sentences]
    for row, kept, sentence in zip(states, mask, sentences, strict=True):
        torch.testing.assert_close(row[kept], reader.read(sentence).states, atol=0.06, rtol=0.01)
    again = reader.encode_all(sentences)
    assert torch.equal(states, again[0]) and torch.equal(mask, again[1])


def test_a_random_reader_is_a_reader_of_the_same_shape(folder):
    control = Reader(ReaderConfig(weights="random", layer=2))
    learned = Reader(ReaderConfig(layer=2))
    a, b = control.read("turn left").states, learned.read("turn left").states
    assert a.shape == b.shape and not torch.allclose(a, b)


def test_missing_or_altered_weights_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="run `python -m drivebyword"):
        pretrained.load(1, tmp_path / "nowhere")
    (tmp_path / pretrained.GGUF_NAME).write_bytes(b"GGUF but not ours")
    with pytest.raises(ValueError, match="another SHA-256"):
        pretrained.fetch(tmp_path)


def test_altered_stored_weights_are_refused(folder, tmp_path):
    for name in ("digests.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "weights.safetensors").write_bytes(b"something else")
    with pytest.raises(ValueError, match="missing or altered"):
        pretrained.load(1, tmp_path)


def test_wrong_use_of_the_command_says_how(capsys):
    assert pretrained.main(["get"]) == 2
    assert "fetch" in capsys.readouterr().err
