"""Two ways to pay for a first sentence that ends within `limit` words, a column of the data."""


def concise(completions: list[str], limit: list[int], **columns: object) -> list[float]:
    """All or nothing: 1 if it does."""
    return [
        float("." in text and words_of_first_sentence(text) <= words)
        for text, words in zip(completions, limit, strict=True)
    ]


def graded(completions: list[str], limit: list[int], **columns: object) -> list[float]:
    """The same, but each word too many costs a fifth."""
    return [
        max(0.0, 1 - 0.2 * max(0, words_of_first_sentence(text) - words))
        for text, words in zip(completions, limit, strict=True)
    ]


def words_of_first_sentence(text: str) -> int:
    """How many words there are before the first full stop."""
    return len(text.split(".")[0].split())
