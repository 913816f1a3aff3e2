"""Person nouns in English captions by spaCy's parser, where it is installed: phrases as grammar has them,
where the rules of `nouns` see words alone.

A name is a person too, and so is whoever "who" speaks of ("a plumber who smiles"), though no list has the
word. Statues, the absent, the background, and who is spoken of again are passed over, as by the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from fdlab.errors import UserError, unknown
from fdlab.preparation import lexicon, nouns
from fdlab.preparation.nouns import Mention

By = Literal["auto", "rules", "spacy"]
BY: tuple[str, ...] = ("auto", "rules", "spacy")
Mentions = Callable[[str], list[Mention]]
MODEL = "en_core_web_sm"


def finder(by: str, model: str = MODEL) -> tuple[str, Mentions]:
    """What finds the people whom captions name, and what records call it. `by`: spacy; rules; auto, which is
    spaCy where it and the model are installed. `model`: a package or a folder. Raises: UserError."""
    if by not in BY:
        raise unknown("prepare.captions.nouns", by, BY)
    if by == "rules" or (by == "auto" and not is_there(model)):
        return "rules", nouns.mentions
    parser = _load(model)
    return f"spacy {parser.meta['lang']}_{parser.meta['name']} {parser.meta['version']}", Parsed(parser)


def is_there(model: str) -> bool:
    """Whether spaCy and a model are installed."""
    from importlib.util import find_spec

    if find_spec("spacy") is None:
        return False
    return find_spec(model) is not None if model.isidentifier() else Path(model).expanduser().is_dir()


@lru_cache(maxsize=1)
def _load(model: str) -> Any:
    key = "prepare.captions.spacy_model"
    try:
        import spacy
    except ImportError:
        raise UserError(
            "prepare.captions.nouns=spacy: spaCy is not installed; pip install 'fdlab[spacy]', or take rules."
        ) from None
    try:
        parser = spacy.load(Path(model).expanduser() if Path(model).expanduser().is_dir() else model)
    except (OSError, ValueError) as error:
        get = (
            f"python -m spacy download {model}" if model.isidentifier() else "give a folder that spaCy saved"
        )
        line = str(error).strip().splitlines()[0]
        raise UserError(f"{key}={model}: no model that spaCy can load; {get}. It says: {line}") from None
    if parser.lang != "en":
        raise UserError(f"{key}={model}: of language '{parser.lang}'; nouns are known in English alone.")
    if "parser" not in parser.pipe_names:
        raise UserError(f"{key}={model}: it has no parser, which finds phrases; take {MODEL}.")
    return parser


class Parsed:
    """Finds mentions by a loaded model."""

    def __init__(self, parser: Any) -> None:
        self.parser = parser

    def __call__(self, caption: str) -> list[Mention]:
        """As `nouns.mentions`; where grammar finds nobody, what the rules say."""
        by_rules = nouns.mentions(caption)
        found: list[Mention] = []
        named: set[str] = set()
        for chunk in self.parser(caption).noun_chunks:
            if found and chunk.start_char < found[-1].end:
                continue
            mention = _mention(caption, chunk, by_rules)
            if mention is None or _is_nobody(caption, chunk, bool(found)):
                continue
            head = mention.noun.rpartition(" ")[2]
            definite = chunk[0].lower_ in lexicon.DEFINITE - lexicon.POSSESSIVE
            if definite and head in named and mention.side is None:
                continue
            named |= {head, "person"}
            found.append(mention)
        return found or by_rules


def _mention(caption: str, chunk: Any, by_rules: list[Mention]) -> Mention | None:
    """Whom a noun phrase names, if anybody."""
    root, words = chunk.root, [token.lower_ for token in chunk]
    word = root.lower_
    if root.pos_ == "PRON" or word in lexicon.COLLECTIVE or word in ("one", "other"):
        # Pronouns, "a group of people" and "the left one" are the rules'.
        return next((m for m in by_rules if chunk.start_char <= m.start < chunk.end_char), None)
    many, is_name = lexicon.singular_of(word), root.ent_type_ == "PERSON"
    if not (many or word in lexicon.SINGULAR or is_name or _has_who(root)):
        return None
    start, end = chunk.start_char, root.idx + len(root.text)
    if not many:
        side = nouns.side_after(caption, end) or next(
            (nouns.SIDES[w] for w in words if w in nouns.SIDES), None
        )
        return Mention(start, end, root.text if is_name else word, 1, side)
    counted = [lexicon.NUMBERS[w] for w in words if w in lexicon.NUMBERS]
    passed = lexicon.ARTICLES | lexicon.MANY | lexicon.BEFORE_PLURAL | set(lexicon.NUMBERS)
    before = [token.lower_ for token in chunk if token.i < root.i and token.lower_ not in passed]
    return Mention(start, end, " ".join([*before, many]), counted[-1] if counted else None)


def _has_who(root: Any) -> bool:
    """Whether a clause speaks of the noun as of a person."""
    clauses = (child for child in root.children if child.dep_ == "relcl")
    return any(token.lower_ in ("who", "whose", "whom") for clause in clauses for token in clause.subtree)


def _is_nobody(caption: str, chunk: Any, anybody: bool) -> bool:
    """Whether a phrase names whose something is, what somebody is, a statue, who is not there or far off."""
    root = chunk.root
    end = root.idx + len(root.text)
    if chunk[0].lower_ == "no" or root.dep_ in ("poss", "compound") or nouns.is_background(caption, end):
        return True
    if root.dep_ == "attr":
        return anybody
    if root.dep_ != "pobj":
        return False
    before = root.head.lower_
    if before == "as":
        return anybody
    return before == "without" or (before == "of" and root.head.head.lower_ in lexicon.NOT_ALIVE)
