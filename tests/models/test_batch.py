"""Padding, masks and shifts, by hand."""

from __future__ import annotations

import pytest
import torch

from cory.models.batch import make_batch, pad_left, position_ids, to_rows

PROMPTS = [[5], [6, 7, 8], [9, 1]]
RESPONSES = [[2, 3], [4], [5, 6]]


def test_sequences_start_in_column_0_and_are_padded_behind() -> None:
    """Prevents padding that real tokens of a causal model could see."""
    batch = make_batch(PROMPTS, RESPONSES)
    assert batch.input_ids.tolist() == [
        [5, 2, 3, 0],
        [6, 7, 8, 4],
        [9, 1, 5, 6],
    ]
    assert batch.prompt_lengths.tolist() == [1, 3, 2]
    assert batch.lengths.tolist() == [3, 4, 4]
    assert batch.response_mask.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.response_tokens.tolist() == [2, 3, 4, 5, 6]
    assert (len(batch), batch.num_tokens) == (3, 5)


def test_responses_are_predicted_one_column_earlier() -> None:
    """Prevents a shift by one: the first token of a response is predicted by the prompt's last."""
    batch = make_batch(PROMPTS, RESPONSES)
    assert batch.predicts_response.tolist() == [
        [True, True, False],
        [False, False, True],
        [False, True, True],
    ]


def test_padding_is_known_by_masks_not_by_id() -> None:
    """Prevents a real token that equals the padding id (GPT-2's EOS) from being masked."""
    batch = make_batch([[0, 5], [0]], [[7, 0], [0]])
    assert batch.prompt_lengths.tolist() == [2, 1]
    assert batch.response_tokens.tolist() == [7, 0, 0]
    _, attention_mask = pad_left([[0, 5], [0]])
    assert attention_mask.tolist() == [[1, 1], [0, 1]]


def test_positions_start_at_the_first_real_token() -> None:
    """Prevents left padding from shifting a prompt to later positions."""
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


def test_select_drops_columns_that_are_padding_everywhere() -> None:
    """Prevents micro-batches from computing on padding, or from cutting a real token off."""
    batch = make_batch(PROMPTS, RESPONSES)
    short = batch.select(torch.tensor([0]))
    assert short.input_ids.tolist() == [[5, 2, 3]]
    assert short.prompt_lengths.tolist() == [1]
    assert short.response_mask.tolist() == [[True, True]]
    one = batch.select(torch.tensor([1]))
    assert one.input_ids.tolist() == [[6, 7, 8, 4]]
    assert one.response_mask.tolist() == [[True]]


def test_select_of_everything_is_the_same_batch() -> None:
    """Prevents a selection that changes what it keeps."""
    batch = make_batch(PROMPTS, RESPONSES)
    same = batch.select(torch.arange(3))
    assert torch.equal(same.input_ids, batch.input_ids)
    assert torch.equal(same.prompt_lengths, batch.prompt_lengths)
    assert torch.equal(same.response_mask, batch.response_mask)


def test_to_rows_puts_numbers_where_tokens_are() -> None:
    """Prevents flat statistics from landing on padding, and gradients from getting lost."""
    batch = make_batch(PROMPTS, RESPONSES)
    flat = torch.arange(1.0, 6.0, requires_grad=True)
    rows = to_rows(flat, batch.response_mask)
    assert rows.tolist() == [[1, 2], [3, 0], [4, 5]]
    (rows * torch.tensor([[1.0, 2], [3, 100], [5, 6]])).sum().backward()
    assert flat.grad is not None
    assert flat.grad.tolist() == [1, 2, 3, 5, 6]
    assert torch.equal(rows[batch.response_mask], flat)


def test_empty_rows_are_refused() -> None:
    """Prevents a response without a token, which has no last token to pay."""
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        make_batch([[1], []], [[1], [2]])
    with pytest.raises(ValueError, match="response 0 is empty"):
        make_batch([[1], [2]], [[], [2]])


def test_to_rows_keeps_what_stands_behind_a_token() -> None:
    """Prevents hidden states from being dealt out to other tokens."""
    batch = make_batch(PROMPTS, RESPONSES)
    flat = torch.arange(10.0).view(5, 2)
    rows = to_rows(flat, batch.response_mask)
    assert rows.shape == (3, 2, 2)
    assert torch.equal(rows[batch.response_mask], flat)
    assert rows[1, 1].tolist() == [0, 0]


def test_pad_left_without_padding() -> None:
    """Prevents the degenerate case of equal lengths from growing a column."""
    ids, mask = pad_left([[1, 2], [3, 4]])
    assert ids.tolist() == [[1, 2], [3, 4]]
    assert mask.all()


@pytest.mark.parametrize(
    ("max_rows", "max_tokens", "expected"),
    [
        (None, 100, [[1, 2, 0]]),
        (2, 100, [[1, 2], [0]]),
        (None, 8, [[1, 2], [0]]),
        (None, 6, [[1], [2], [0]]),
        (2, 1, [[1], [2], [0]]),
    ],
)
def test_split_covers_every_row_once_longest_first(
    max_rows: int | None, max_tokens: int, expected: list[list[int]]
) -> None:
    """Prevents a last piece that is lost, and pieces that are larger than was asked for."""
    batch = make_batch(PROMPTS, RESPONSES)
    assert [rows.tolist() for rows in batch.split(max_rows, max_tokens)] == expected


def test_split_puts_sequences_of_like_length_together() -> None:
    """Prevents short sequences from being padded to the longest of the batch."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (200,), generator=generator).tolist()
    batch = make_batch([[1] * length for length in lengths], [[2]] * 200)
    pieces = [batch.select(rows) for rows in batch.split(16, 10_000)]
    num_columns = sum(piece.input_ids.numel() for piece in pieces)
    assert num_columns < 1.1 * int(batch.lengths.sum())
    assert batch.input_ids.numel() > 1.8 * int(batch.lengths.sum())
