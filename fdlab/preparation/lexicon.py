"""English words that mean a person."""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SINGULAR = _words(
    """person man woman boy girl child kid baby toddler infant teenager teen adult lady gentleman guy gal
    fellow lad human someone somebody bride groom bridesmaid mother father mom mum dad parent son
    daughter sister brother husband wife boyfriend girlfriend grandmother grandfather grandma grandpa
    aunt uncle niece nephew cousin twin friend colleague couple family actor actress artist athlete
    astronaut author baker ballerina barber bartender boxer builder businessman businesswoman captain
    carpenter celebrity chef clown coach cook cowboy cowgirl cyclist dancer diver doctor dentist driver
    engineer farmer firefighter fireman fisherman footballer gardener golfer guitarist hiker hunter
    inmate jockey journalist judge king knight lawyer lifeguard magician maid mechanic miner model monk
    musician nun nurse officer painter passenger pedestrian photographer pianist pilot pirate player
    policeman policewoman politician priest prince princess professor queen referee rider runner sailor
    salesman scientist sculptor senior singer skateboarder skater skier snowboarder soldier speaker
    student surfer surgeon swimmer tailor teacher tourist traveler traveller vendor violinist waiter
    waitress warrior witch wizard worker wrestler writer youth performer drummer graduate guest visitor
    spectator customer shopper biker motorcyclist policeperson attendant"""
)
IRREGULAR = {
    "men": "man", "women": "woman", "people": "person", "persons": "person", "children": "child",
    "ladies": "lady", "gentlemen": "gentleman", "babies": "baby", "families": "family", "wives": "wife",
    "businessmen": "businessman", "businesswomen": "businesswoman", "firemen": "fireman",
    "fishermen": "fisherman", "policemen": "policeman", "policewomen": "policewoman", "salesmen": "salesman",
    "celebrities": "celebrity", "witches": "witch", "coaches": "coach", "actresses": "actress",
    "waitresses": "waitress", "folks": "person", "youths": "youth", "folk": "person",
}  # fmt: skip
COLLECTIVE = {"couple": 2, "duo": 2, "trio": 3, "family": None, "group": None, "crowd": None, "team": None}
"""Words for several people, and how many; None: it does not say."""
PRONOUNS = _words("he she him me i")
NUMBERS = {
    "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10,
    "both": 2, "2": 2, "3": 3, "4": 4, "5": 5, "6": 6, "7": 7, "8": 8, "9": 9, "10": 10,
}  # fmt: skip
POSSESSIVE = _words("his her their its my our your")
DEFINITE = POSSESSIVE | _words("the this that these those")
ARTICLES = DEFINITE | _words("""a an some several many few another other one each every""")
MANY = _words("some several many few all")
BEFORE_PLURAL = ARTICLES | POSSESSIVE | {"large", "small", "big"}
"""What belongs to a phrase of several people, before its number."""
GRAMMAR = _words(
    """a an the of in on at with and or to is are was were be by for from who that which while as it there
    into near next behind front under over"""
)
"""Words that no phrase of a noun has within it, and an English caption is hardly without."""
PARTICIPLES = _words("wearing holding standing sitting looking smiling")
NOT_ALIVE = _words(
    """statue sculpture bust doll mannequin poster figurine puppet billboard cutout tattoo grave"""
)
"""A statue of a man is nobody."""
COPULAS = _words("is are was were as like")
NOT_A_PERSON_BEFORE = _words(
    """stroller carriage bottle shower cave toys toy clothes seat bike jersey uniform hat hats shoes dress
    wear hood steps band scout store shop room bed bedroom food powder formula portrait"""
)
"""Nouns that make the word before them no person: a baby stroller."""


def singular_of(word: str) -> str | None:
    """The person noun that a plural stands for; None: it is no plural of one."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("s") and word[:-1] in SINGULAR:
        return word[:-1]
    return None


def with_article(phrase: str) -> str:
    """A phrase behind "a" or "an"."""
    return ("an " if phrase[:1].lower() in "aeiou" else "a ") + phrase
