r"""The final number of a written solution, read as a person would read it.

Models close a solution in many ways: `#### 72`, `\boxed{72}`, `The answer is $1,234.50.`, `A: 72`,
or only with a last sentence. `final_number` takes the first of these that is there:

1. the first `####` that a number follows (what comes after it is no longer the solution);
2. the last `\boxed{…}` that holds a number;
3. the last "answer" phrase or label that a number follows;
4. the last number of the text (the rule of the CORY paper).

Text after a hallucinated next `Question:` is never read. Every pattern is possessive or bounded,
so that the time is linear in the text whatever it holds.
"""

from __future__ import annotations

import re
from fractions import Fraction

# A longer numeral is not a number to us: no gold answer has so many digits, and converting them
# would take more than linear time.
MAX_DIGITS = 1000

# An answer is at most this far from its marker, in characters.
CLAUSE = 300

_NEXT_TURN = re.compile(
    r"""
    <\|[^|\n]{1,40}\|> | </s> | \[/?INST\] | <(?:start|end)_of_turn>
    | (?:^ | (?<=[.!?]))
      [ \t\#*_>]*+ (?:(?:next|new|another)[ ])?
      (?: (?:question|problem|exercise|instruction|reference|human|user|(?-i:Q)) [ ]? \#?[0-9]{0,4}
      ) [*_]{0,2} [ ]? :
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_ANNOTATION = re.compile(r"<<([^<>\n]*+)>>(?=([^\w\n]{0,3}[0-9])?)")

_PLAIN = str.maketrans(
    {
        **dict.fromkeys("−–‐‑﹣－", "-"),
        **dict.fromkeys("\u00a0\u202f\u2009", "\u2009"),  # spaces that group digits
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        "—": " ",
        "＄": "$",
        "½": " 1/2",
        "¼": " 1/4",
        "¾": " 3/4",
        "⅓": " 1/3",
        "⅔": " 2/3",
    }
)
_LATEX = [
    (re.compile(r"\\[dt]?frac\{ ?(-?[0-9.,]{1,30}+) ?\}\{ ?([0-9.,]{1,30}+) ?\}"), r" \1/\2"),
    (re.compile(r"\{,\}|(?<=[0-9])\\[,;:](?=[0-9]{3})"), ","),
    (re.compile(r"\\!"), ""),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\\times(?![A-Za-z])"), "x"),
    (re.compile(r"\\(?!f?box(?:ed)?\{)[A-Za-z]++"), " "),
    # "10 000" is grouped: nobody writes the number 000 alone.
    (re.compile(r"(?<=[0-9])\u2009(?=[0-9]{3}(?![0-9]))|(?<=[0-9]) (?=0[0-9]{2}(?![0-9]))"), ","),
]

# The digit in CO2, m2 or x^2 belongs to a name; the one in Rs500 is an amount.
_RUN = r"(?:(?<![0-9A-Za-z])\.)?[0-9]++(?:[.,][0-9]++)*+"
_NUMBER = re.compile(
    rf"""
    (?: (?<![A-Za-z0-9_^]) | (?<=USD) | (?<=EUR) | (?<=Rs) | (?<=RM) ) (?<![0-9][.,]) (?<!\^\{{)
    (?P<run>{_RUN})
    (?: (?:[ ](?P<top>[0-9]{{1,3}}+))? / (?P<bottom>[0-9]++) (?! / | [.,][0-9] )
      | : (?P<minutes>[0-5][0-9]) (?![0-9:])
      | (?: [eE] | [ ]?[x×*·][ ]?10[ ]?\^[ ]?\{{? ) (?P<exponent>[-+]?[0-9]{{1,3}}) (?![0-9])
    )?
    """,
    re.VERBOSE,
)
_GROUPED = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_GROUPED_BY_POINTS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{3})+(?:\.[0-9]{3}|,[0-9]{1,2})")

_CURRENCY = "$£€¥₹"
_MINUS = re.compile(rf"(?:-(?:[{_CURRENCY}] ?)?|[{_CURRENCY}]-)$")

_OPENING = rf"[\s*_`~\"'“”‘’(\[{{\\:≈{_CURRENCY}]*+"
_FILLER = (
    r"(?:is|are|be|was|would|will|about|around|approximately|exactly|only|still|therefore|thus|also"
    r"|simply|just|now|equals?|equal|to|a|the|total|of|usd|rs\.?)"
)
_LEAD = re.compile(
    rf"{_OPENING}(?:{_FILLER}(?![A-Za-z]){_OPENING}){{0,5}}"
    rf"(?:[A-Za-z]\w{{0,20}} ?=)?{_OPENING}(?:- )?(?:-(?=[.0-9{_CURRENCY}]))?{_OPENING}",
    re.IGNORECASE,
)
_BOX = re.compile(r"\\f?box(?:ed)?\{")
_PHRASE = re.compile(
    r"""
    \b(?:answer|ans)\b [*_]{0,2}
    (?: [ ](?:to|for|of)[ ][^\n.:=0-9]{0,60}? | [ ]?\([^()\n]{0,40}\) )?
    (?: [ ](?P<verb>is|was|will|would|equals|=) (?![A-Za-z]) | [*_]{0,2}[ ]?(?:[:=]|-[ ]) )
    | ^[ \t\#*_>]*+ (?-i:A)[*_]{0,2}[ ]?:
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
# What turns a number into the start of a sum, up to its equals sign: " * 5 =".
_SUM = re.compile(
    r"(?:[^=.,;(\n]|[.,](?=[0-9])){0,200}?(?:[+*/×÷]|\bx\b| - |-(?=[0-9]))"
    r"(?:[^=.\n]|\.(?=[0-9])){0,200}="
)
_HEADING = re.compile(r"[.):][ ]+[*_]*[A-Za-z]")
_SHORT_END = re.compile(
    r"%?(?:[ ]?[A-Za-z/²³]{1,20}){0,3}[*_)}\]\\$]*+(?:[.!][*]*(?=\s|$)|\s*$|[ ]*\n)"
)


def final_number(text: str) -> Fraction | None:
    r"""The number that `text` gives as its answer, exact; None when there is none.

    >>> final_number("She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18")
    Fraction(18, 1)
    >>> final_number("The answer is $1,234.50 (for 12 months).")
    Fraction(2469, 2)
    """
    text = _plain_text(_own_answer(text))
    for read in (_after_hashes, _in_box, _after_phrase, _last_number):
        if numbers := read(text):
            return numbers[0]
    return None


def _own_answer(text: str) -> str:
    """The part of a completion that answers the question asked.

    Thoughts up to `</think>` are dropped, and so is everything from the next question or chat turn
    on. A `Question:` before the first digit is the question repeated, and stays.
    """
    text = text.rpartition("</think>")[2]
    first_digit = re.search("[0-9]", text)
    if first_digit is None:
        return text
    for turn in _NEXT_TURN.finditer(text):
        if turn.start() > first_digit.start():
            return text[: turn.start()]
    return text


def _plain_text(text: str) -> str:
    """`text` without calculator annotations, LaTeX commands and typographic variants of signs."""
    # The result of `<<48/2=24>>` should follow in the text; it is kept only where it does not.
    text = _ANNOTATION.sub(
        lambda found: "" if found[2] else found[1].rpartition("=")[2], text.translate(_PLAIN)
    )
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _after_hashes(text: str) -> list[Fraction | None]:
    """Numbers of the first `####` that is a result and not a heading such as `#### 1. Eggs`."""
    for marker in re.finditer("####", text):
        number = _number_after(text, marker.end())
        if number and not _HEADING.match(text, number.end()):
            return _result(text, number)
    return []


def _in_box(text: str) -> list[Fraction | None]:
    r"""Numbers of the last `\boxed{…}` that holds any."""
    for marker in reversed(list(_BOX.finditer(text))):
        content = _braced(text[marker.end() : marker.end() + CLAUSE])
        number = _number_after(content, 0)
        if numbers := _result(content, number) if number else _last_number(content):
            return numbers
    return []


def _after_phrase(text: str) -> list[Fraction | None]:
    """Numbers of the last "answer is" or "Answer:" that names a result."""
    first_digit = re.search("[0-9]", text)
    for marker in reversed(list(_PHRASE.finditer(text))):
        number = _number_after(text, marker.end())
        if number is None:
            continue
        if marker["verb"]:
            return _result(text, number)
        # "Answer:" may also introduce the working ("Answer: 16 - 3 = 13 eggs are left …").
        opens_list = number["run"] == "1" and _HEADING.match(text, number.end())
        if opens_list or _SUM.match(text, number.end()):
            continue
        opens_text = first_digit is not None and marker.start() < first_digit.start()
        if opens_text and not _SHORT_END.match(text, number.end()):
            continue
        return _values(number)
    return []


def _number_after(text: str, position: int) -> re.Match[str] | None:
    """The number at `position`, but for signs, quotes and small words such as "about" or "x ="."""
    lead = _LEAD.match(text, position, position + CLAUSE)
    return _NUMBER.match(text, lead.end()) if lead else None


def _result(text: str, number: re.Match[str]) -> list[Fraction | None]:
    """The values of `number`, or of what its sum comes to: 15 for `3 * 5 = 15`."""
    while sum_ := _SUM.match(text, number.end()):
        following = _number_after(text, sum_.end())
        if following is None:
            break
        number = following
    return _values(number)


def _last_number(text: str) -> list[Fraction | None]:
    """The last value of `text`, wherever it stands."""
    numbers = list(_NUMBER.finditer(text))
    return _values(numbers[-1])[-1:] if numbers else []


def _braced(text: str) -> str:
    """`text` up to the brace that closes it, or to its first line's end when none does."""
    depth = 1
    for brace in re.finditer("[{}]", text):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[: brace.start()]
    return text.partition("\n")[0]


def _values(number: re.Match[str]) -> list[Fraction | None]:
    """What a match of `_NUMBER` stands for: one value, several for `1,2,3`, None where unreadable.

    `3/4` is a fraction and `3 1/2` a mixed number; `1:30` is 1.5 (hours); a percent sign and units
    are ignored; `2020.1.5` is no number.
    """
    run, top, bottom = number["run"], number["top"], number["bottom"]
    if max(len(run), len(bottom or "")) > MAX_DIGITS:
        return [None]
    values = [Fraction(piece) if piece.count(".") < 2 else None for piece in _pieces(run)]
    if top and int(top) >= int(bottom):
        values.append(_ratio(int(top), int(bottom)))  # "16 48/2": two numbers
    elif values[-1] is not None:
        values[-1] = _with_tail(values[-1], number)
    if values[0] is not None and _is_negative(number.string, number.start()):
        values[0] = -values[0]
    return values


def _pieces(run: str) -> list[str]:
    """Split a run of digits, commas and points into numerals without separators of thousands."""
    if _GROUPED.fullmatch(run):
        return [run.replace(",", "")]
    if _GROUPED_BY_POINTS.fullmatch(run):
        return [run.replace(".", "").replace(",", ".")]
    return run.split(",")


def _with_tail(value: Fraction, number: re.Match[str]) -> Fraction | None:
    """`value` with the fraction, minutes or exponent that follow it."""
    if number["top"]:
        return value + Fraction(int(number["top"]), int(number["bottom"]))
    if number["bottom"]:
        return _ratio(value, int(number["bottom"]))
    if number["minutes"]:
        return value + Fraction(int(number["minutes"]), 60)
    if number["exponent"]:
        return value * Fraction(10) ** int(number["exponent"])
    return value


def _ratio(top: Fraction | int, bottom: int) -> Fraction | None:
    return Fraction(top) / bottom if bottom else None


def _is_negative(text: str, start: int) -> bool:
    """Whether a minus sign, not a dash or a subtraction, stands before the number at `start`."""
    before = text[max(0, start - 16) : start]
    minus = _MINUS.search(before)
    if minus is None:
        return False
    previous = before[: minus.start()].rstrip(" \t")[-1:]
    is_hyphen = previous.isalpha() and before[: minus.start()].endswith(previous)
    return not (previous.isdigit() or previous in set(")]}%-") or is_hyphen)
