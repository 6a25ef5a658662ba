"""`cory.batch`: padding, masks and shifts, by hand."""

from __future__ import annotations

import pytest
import torch

from cory.batch import make_batch, pad_prompts, position_ids, split_rows, to_rows

PROMPTS = [[5], [6, 7, 8], [9, 1]]
RESPONSES = [[2, 3], [4], [5, 6]]


def test_prompts_are_padded_left_and_responses_right() -> None:
    """Prevents responses that start in different columns."""
    batch = make_batch(PROMPTS, RESPONSES, pad_id=0)
    assert batch.input_ids.tolist() == [
        [0, 0, 5, 2, 3],
        [6, 7, 8, 4, 0],
        [0, 9, 1, 5, 6],
    ]
    assert batch.prompt_mask.sum(1).tolist() == [1, 3, 2]
    assert batch.response_mask.tolist() == [[True, True], [True, False], [True, True]]
    assert batch.responses.tolist() == [[2, 3], [4, 0], [5, 6]]
    assert (len(batch), batch.num_tokens) == (3, 5)


def test_padding_is_known_by_masks_not_by_id() -> None:
    """Prevents a real token that equals the padding id (GPT-2's EOS) from being masked."""
    batch = make_batch([[0, 5], [0]], [[7, 0], [0]], pad_id=0)
    assert batch.prompt_mask.tolist() == [[True, True], [False, True]]
    assert batch.response_mask.tolist() == [[True, True], [True, False]]


def test_attention_covers_real_tokens_only() -> None:
    """Prevents attention to padding on either side."""
    batch = make_batch(PROMPTS, RESPONSES, pad_id=0)
    assert batch.attention_mask.tolist() == [
        [0, 0, 1, 1, 1],
        [1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1],
    ]


def test_positions_start_at_the_first_real_token() -> None:
    """Prevents left padding from shifting a prompt to later positions."""
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]])
    assert position_ids(mask).tolist() == [[0, 0, 0, 1], [0, 1, 2, 2]]


def test_select_drops_columns_that_are_padding_everywhere() -> None:
    """Prevents micro-batches from computing on padding, or from cutting a real token off."""
    batch = make_batch(PROMPTS, RESPONSES, pad_id=0)
    short = batch.select(torch.tensor([2, 0]))
    assert short.input_ids.tolist() == [[9, 1, 5, 6], [0, 5, 2, 3]]
    assert short.prompt_mask.tolist() == [[True, True], [False, True]]
    one = batch.select(torch.tensor([1]))
    assert one.input_ids.tolist() == [[6, 7, 8, 4]]
    assert one.response_mask.tolist() == [[True]]


def test_select_of_everything_is_the_same_batch() -> None:
    """Prevents a selection that changes what it keeps."""
    batch = make_batch(PROMPTS, RESPONSES, pad_id=0)
    same = batch.select(torch.arange(3))
    assert torch.equal(same.input_ids, batch.input_ids)
    assert torch.equal(same.prompt_mask, batch.prompt_mask)
    assert torch.equal(same.response_mask, batch.response_mask)


def test_to_rows_puts_numbers_where_tokens_are() -> None:
    """Prevents flat statistics from landing on padding, and gradients from getting lost."""
    batch = make_batch(PROMPTS, RESPONSES, pad_id=0)
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
        make_batch([[1], []], [[1], [2]], pad_id=0)
    with pytest.raises(ValueError, match="response 0 is empty"):
        make_batch([[1], [2]], [[], [2]], pad_id=0)


def test_pad_prompts_without_padding() -> None:
    """Prevents the degenerate case of equal lengths from growing a column."""
    ids, mask = pad_prompts([[1, 2], [3, 4]], pad_id=9)
    assert ids.tolist() == [[1, 2], [3, 4]]
    assert mask.all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(2, [[0, 1], [2, 3], [4]]), (5, [[0, 1, 2, 3, 4]]), (None, [[0, 1, 2, 3, 4]])],
)
def test_split_rows_covers_every_row_once(size: int | None, expected: list[list[int]]) -> None:
    """Prevents a last piece that is lost."""
    assert [rows.tolist() for rows in split_rows(5, size)] == expected
