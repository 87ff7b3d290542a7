"""Turn a docstring into the words that a person would search with: cleaning, questions, rewordings.

Everything here is deterministic text work on one sentence. `helpers.data.queries.questions` decides which
sentence becomes which kind of query.
"""

from __future__ import annotations

import re
from itertools import zip_longest

from helpers.code.docstrings import UNDERLINE, prose_lines
from helpers.data.queries.letters import WORD, is_letter, name_parts, same_form, separate

HOW_TO = ("How do I {verb} {rest}?", "how to {verb} {rest}", "What can I call to {verb} {rest}?")
WHERE_IS = (
    "Where is the code to {verb} {rest}?",
    "In which file do we {verb} {rest}?",
    "where does it {verb} {rest}",
)

SYNONYMS = {
    "return": "give", "returns": "gives", "compute": "calculate", "computes": "calculates",
    "calculate": "work out", "calculates": "works out", "find": "locate", "finds": "locates",
    "generate": "produce", "generates": "produces", "create": "make", "creates": "makes",
    "build": "construct", "builds": "constructs", "construct": "build", "check": "test",
    "checks": "tests", "determine": "decide", "determines": "decides", "remove": "delete",
    "removes": "deletes", "delete": "remove", "add": "insert", "adds": "inserts", "convert": "turn",
    "converts": "turns", "read": "load", "reads": "loads", "write": "save", "writes": "saves",
    "update": "refresh", "updates": "refreshes", "initialize": "set up", "initializes": "sets up",
    "iterate": "loop", "iterates": "loops", "yield": "produce", "yields": "produces", "raise": "throw",
    "raises": "throws", "parse": "interpret", "parses": "interprets", "merge": "combine",
    "graph": "network", "graphs": "networks", "node": "vertex", "nodes": "vertices", "vertex": "node",
    "vertices": "nodes", "edge": "link", "edges": "links", "weight": "cost", "weights": "costs",
    "path": "route", "paths": "routes", "maximum": "largest", "minimum": "smallest", "number": "count",
    "list": "sequence", "dictionary": "mapping", "dict": "mapping", "function": "routine",
    "object": "instance", "string": "text", "file": "document", "size": "extent", "value": "quantity",
    "values": "quantities", "given": "supplied", "using": "by means of", "random": "randomly drawn",
    "average": "mean", "all": "every one of the", "each": "every", "between": "joining",
    "algorithm": "method", "component": "part", "components": "parts",
    "subgraph": "part of the network", "tree": "acyclic network", "directory": "folder",
    "error": "failure", "whether": "if", "specified": "chosen", "current": "present",
}  # fmt: skip

# Verbs, in base form, that a docstring may start with to be turned into a question.
VERBS = frozenset(
    """
    add adjust align analyze append apply approximate assert assign attach average balance bind
    break build cache calculate call cancel change check choose clean clear clone close collapse
    collect color combine compare compile complete compose compress compute configure connect
    construct consume contract convert copy count cover create cut decide decode decompose
    decompress decorate decrease define delete deserialize detect determine disable discard
    disconnect display divide do draw drop dump emit enable encode ensure enumerate escape estimate
    evaluate examine execute expand explore export extend extract factor fetch fill filter find
    finish fit fix flatten flush fold format forward generate get give grow guess handle hash
    identify implement import improve increase increment index indicate infer initialize insert
    inspect install invert invoke iterate join keep label launch limit link list load locate lock
    log look lookup make map mark mask match measure merge minimize maximize mix modify monitor move
    multiply normalize notify obtain open optimize order organize pack pad parse partition pass
    perform permute pick place plot pop position predict prepare prepend print process produce
    project propagate prove provide prune push put query raise randomize rank read rebuild receive
    recompute recover reduce refine register relabel relax release remove rename render reorder
    repeat replace report request reset resize resolve restore retrieve return reverse rewrite
    rotate run sample save scale scan schedule score search select send separate serialize set show
    shift shuffle sign simplify simulate skip slice solve sort split start stop store strip sum swap
    synchronize take tell test tokenize toggle track train transform translate traverse trim
    truncate try turn unlock unpack unregister update upgrade use validate verify visit visualize
    wait walk warn weight wrap write yield
    """.split()  # noqa: SIM905
)

FILLER_WORDS = frozenset(
    """
    a an and any are as at be by can do does each every file for from get given how i if in into is
    it its me of on or return returns that the this to using we what when where which whether with
    code call there
    """.split()  # noqa: SIM905
)

_ROLE = re.compile(r":[a-zA-Z:_+-]+:`~?([^`<]*?)(?:\s*<[^`>]*>)?`")
_LINK = re.compile(r"`([^`<]+?)\s*<[^`>]*>`_{0,2}")
_QUOTED = re.compile(r"``?([^`]*)``?_{0,2}")
_CITATION = re.compile(r"\s*\[[^\]\s]{1,12}\]_")
_SUBSTITUTION = re.compile(r"\|([^|\s]+)\|_?")
_EMPHASIS = re.compile(r"(?<![\w*])(\*\*?|_)([^*\s_](?:[^*]*[^*\s_])?)\1(?![\w*])")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(]|(?![a-z])[^\W\d_])|(?<=[.!?])$|(?<=[。！？।؟۔።։])\s*")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|cf|vs|resp|al|Fig|Eq|No)\.$")
_FIELDS = ("..", ":param", ":return", ":type", ":raises", "@")
_SECTION = re.compile(
    r"^\s*(?:(?:keyword |other )?(?:param(?:eter)?s?|args?|arguments?)|kwargs|returns?|yields?|receives?|"
    r"raises?|warns?|exceptions?|notes?|examples?|references?|see also|attributes?|methods?|warnings?|todo|"
    r"usage)\s*:?\s*$",
    re.IGNORECASE,
)
# A first line with a line of signs below it (and perhaps above), or with Markdown's marks.
_TITLE = re.compile(
    rf"\s*(?:{UNDERLINE.pattern}\n)?(?:#{{1,6}}[ \t]+(?P<marked>[^\n]*?)[ \t#]*(?:\n|$)|"
    rf"(?P<text>[^\n]+)\n[ \t]*([-=~^*+#\"'_])\4{{2,}}[ \t]*(?:\n|$))"
)
TITLE_WORDS = 3  # a shorter title says too little to ask with
_WORD = re.compile(rf"{WORD}(?:['’-]{WORD})*")


def first_sentence(docstring: str) -> str:
    """Return the first sentence of the first paragraph in plain words; "" where it holds no prose.

    Sphinx roles, links, literals, emphasis and citations are replaced by their text. Directives, field
    lists, doctests and section headings end the paragraph. A title counts as a sentence; if it is as short as
    a name, the first sentence below it is taken.
    """
    if (heading := _TITLE.match(docstring)) and not _SECTION.match(heading["marked"] or heading["text"]):
        title = (heading["marked"] or heading["text"]).strip()
        if len(words_of(title)) < TITLE_WORDS:
            return first_sentence(docstring[heading.end() :])
        docstring = title
    paragraph: list[str] = []
    for line in prose_lines(docstring):
        bare = line.strip()
        if not bare or bare.startswith(_FIELDS) or _SECTION.match(bare):
            break
        paragraph.append(bare)
    text = plain(" ".join(paragraph))
    sentence = ""
    pieces = _SENTENCE_END.split(text)
    for piece, following in zip_longest(pieces, pieces[1:], fillvalue=""):
        sentence = f"{sentence} {piece}".strip()
        if not _ABBREVIATION.search(sentence) and not following[:1].islower():
            break
    letters = sum(is_letter(character) or character.isspace() for character in sentence)
    if not sentence or letters < 0.7 * len(sentence):
        return ""
    return sentence.rstrip(" .:;,!。！।؟۔።։")


def plain(text: str) -> str:
    """Return reStructuredText inline markup as the words that a reader sees."""
    text = _CITATION.sub("", text)
    for markup in (_ROLE, _LINK, _QUOTED, _SUBSTITUTION):
        text = markup.sub(r"\1", text)
    text = _EMPHASIS.sub(r"\2", text)
    return " ".join(text.replace("\\", "").split())


def as_question(sentence: str, template: str) -> str:
    """Return `template` filled from a sentence that starts with a verb; "" where it does not.

    "Returns True if ..." becomes "check whether ...", other "Returns ..." become "get ...".
    """
    head, _, rest = sentence.partition(" ")
    verb = base_form(head)
    if not verb or not rest:
        return ""
    if verb in ("return", "yield", "give"):
        truth = re.match(r"(?:True|a Boolean|bool)\b,?\s*(?:if and only if|if|iff|when|whether)\s+(.*)", rest)
        verb, rest = ("check whether", truth.group(1)) if truth else ("get", rest)
    elif rest.startswith("if "):
        rest = "whether " + rest.removeprefix("if ")
    return template.format(verb=verb, rest=rest)


def paraphrase(sentence: str) -> str:
    """Return the sentence with synonyms put in; "" unless at least two words change."""
    changed = 0

    def swap(match: re.Match[str]) -> str:
        nonlocal changed
        word = match.group()
        other = SYNONYMS.get(word.lower())
        if other is None or (word.isupper() and len(word) > 1):
            return word
        changed += 1
        return other.capitalize() if word[0].isupper() else other

    reworded = _WORD.sub(swap, sentence)
    return reworded if changed >= 2 else ""


def base_form(word: str) -> str:
    """Return the base form of a verb in VERBS, given in imperative or third person; else ""."""
    word = word.lower()
    candidates = [word]
    for ending, base_ending in (("ies", "y"), ("es", ""), ("s", "")):
        if word.endswith(ending):
            candidates.append(word.removesuffix(ending) + base_ending)
    return next((candidate for candidate in candidates if candidate in VERBS), "")


def words_of(text: str) -> list[str]:
    """Return the lower-case words of prose; apostrophes and hyphens stay inside a word."""
    return [part for word in _WORD.findall(same_form(text)) for part in separate(word.lower())]


def core_words(sentence: str) -> list[str]:
    """Return the words by which sentences are compared: no case, no articles, no ending of the verb."""
    words = words_of(sentence)
    if words:
        words[0] = base_form(words[0]) or words[0]
    return [word for word in words if word not in ("a", "an", "the")]


def name_words(name: str) -> list[str]:
    """Return the lower-case parts of a snake_case or CamelCase name."""
    return name_parts(name)


def stem(word: str) -> str:
    """Return a word without its most common English endings, so that 'paths' matches 'path'."""
    for ending in ("ies", "es", "s", "ing", "ed"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)] + ("y" if ending == "ies" else "")
    return word
