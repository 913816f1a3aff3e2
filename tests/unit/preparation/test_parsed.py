"""Whom captions name by spaCy's parser: a small pipeline that is trained here on the grammar it is asked
about, for models of English are no Python packages of the index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fdlab.errors import UserError
from fdlab.preparation import nouns, parsed

spacy = pytest.importorskip("spacy", reason="spaCy is not installed")

# Words with tag, part of speech, head and dependency.
GRAMMAR = (
    "a/DT/DET/1/det plumber/NN/NOUN/1/ROOT who/WP/PRON/3/nsubj smiles/VBZ/VERB/1/relcl",
    "two/CD/NUM/2/nummod young/JJ/ADJ/2/amod women/NNS/NOUN/2/ROOT at/IN/ADP/2/prep "
    "a/DT/DET/5/det table/NN/NOUN/3/pobj",
    "a/DT/DET/1/det woman/NN/NOUN/2/nsubj is/VBZ/AUX/2/ROOT a/DT/DET/4/det doctor/NN/NOUN/2/attr",
    "a/DT/DET/1/det statue/NN/NOUN/1/ROOT of/IN/ADP/1/prep a/DT/DET/4/det man/NN/NOUN/2/pobj "
    "beside/IN/ADP/1/prep a/DT/DET/7/det girl/NN/NOUN/5/pobj",
    "Ada/NNP/PROPN/1/nsubj reads/VBZ/VERB/1/ROOT beside/IN/ADP/1/prep a/DT/DET/4/det boy/NN/NOUN/2/pobj",
    "a/DT/DET/2/det baby/NN/NOUN/2/compound stroller/NN/NOUN/2/ROOT beside/IN/ADP/2/prep "
    "a/DT/DET/5/det mother/NN/NOUN/3/pobj",
    "a/DT/DET/1/det man/NN/NOUN/1/ROOT dressed/VBN/VERB/1/acl as/IN/ADP/2/prep "
    "a/DT/DET/5/det nurse/NN/NOUN/3/pobj",
)


def shape(doc: Any) -> list[tuple[str, str, int]]:
    return [(token.pos_, token.dep_, token.head.i) for token in doc]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parser that knows these sentences, and a ruler that knows one name."""
    from spacy.tokens import Doc
    from spacy.training import Example

    nlp = spacy.blank("en")
    nlp.meta["name"], nlp.meta["version"] = "grammar", "1.0"
    nlp.add_pipe("morphologizer")
    # By default it learns no relation that it is shown less than 30 times.
    nlp.add_pipe("parser", config={"min_action_freq": 1})
    examples = []
    for sentence in GRAMMAR:
        words, tags, pos, heads, deps = zip(*(word.split("/") for word in sentence.split()), strict=True)
        doc = Doc(nlp.vocab, words, tags=tags, pos=pos, heads=[int(head) for head in heads], deps=deps)
        examples.append(Example(nlp.make_doc(" ".join(words)), doc))
    spacy.util.fix_random_seed(0)
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(100):
        nlp.update(examples, sgd=optimizer)
        read = [nlp(example.reference.text) for example in examples]
        if all(shape(one) == shape(example.reference) for one, example in zip(read, examples, strict=True)):
            break
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "Ada"}])
    folder = tmp_path_factory.mktemp("spacy") / "grammar"
    nlp.to_disk(folder)
    return folder


def test_phrases_are_the_parsers(model: Path) -> None:
    name, find = parsed.finder("auto", str(model))
    assert name == "spacy en_grammar 1.0"

    def said(caption: str) -> list[tuple[str, int | None]]:
        return [(caption[m.start : m.end], m.num) for m in find(caption)]

    # No list of words has a plumber, nor a name.
    assert said("a plumber who smiles") == [("a plumber", 1)] and not nouns.mentions("a plumber who smiles")
    assert said("Ada reads beside a boy") == [("Ada", 1), ("a boy", 1)]
    assert said("two young women at a table") == [("two young women", 2)]
    (women,) = find("two young women at a table")
    assert women.noun == "young woman"
    assert said("a woman is a doctor") == [("a woman", 1)]
    assert said("a statue of a man beside a girl") == [("a girl", 1)]
    assert said("a baby stroller beside a mother") == [("a mother", 1)]
    assert said("a man dressed as a nurse") == [("a man", 1)]
    # What grammar finds nobody in is the rules'.
    assert said("she smiles") == [("she", 1)]


def test_where_spacy_or_its_model_is_missing_rules_are_taken_or_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert parsed.finder("rules") == ("rules", nouns.mentions)
    assert parsed.finder("auto", "en_no_such_model") == ("rules", nouns.mentions)
    with pytest.raises(UserError, match="python -m spacy download en_no_such_model"):
        parsed.finder("spacy", "en_no_such_model")
    with pytest.raises(UserError, match="Did you mean 'rules'"):
        parsed.finder("rulse")
    spacy.blank("de").to_disk(tmp_path / "de")
    with pytest.raises(UserError, match="of language 'de'"):
        parsed.finder("spacy", str(tmp_path / "de"))
    spacy.blank("en").to_disk(tmp_path / "en")
    with pytest.raises(UserError, match="it has no parser"):
        parsed.finder("spacy", str(tmp_path / "en"))
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    with pytest.raises(UserError, match=r"pip install 'fdlab\[spacy\]'"):
        parsed.finder("spacy", "en_another_model")
