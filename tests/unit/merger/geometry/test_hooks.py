"""No hook stays on a layer: not after a pass, not after one that fails, not after one that could not be hooked."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from alignmerge.merger.geometry.hooks import hooked


def test_hooks_are_on_inside_and_off_after() -> None:
    layer, seen = nn.Linear(2, 2), []
    with hooked([layer.register_forward_hook(lambda *_: seen.append("called"))]):
        layer(torch.zeros(2))
    layer(torch.zeros(2))
    assert seen == ["called"]


def test_hooks_are_off_after_a_pass_that_fails() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ZeroDivisionError), hooked([layer.register_forward_pre_hook(lambda *_: 1 / 0)]):
        layer(torch.zeros(2))
    assert not layer._forward_pre_hooks


def test_hooks_are_off_when_a_later_one_could_not_be_set() -> None:
    layer = nn.Linear(2, 2)

    def handles() -> Iterator[RemovableHandle]:
        yield layer.register_forward_hook(lambda *_: None)
        raise KeyError("no such layer")

    with pytest.raises(KeyError, match="no such layer"), hooked(handles()):
        pass
    assert not layer._forward_hooks
