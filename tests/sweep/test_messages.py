"""Messages about damaged models, read as a user reads them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from deploycc.diagnostics import render
from deploycc.importing.stored import check_stored
from deploycc.types import DeployccError, Diagnostic
from tests.sweep.graphs import Graph


def test_names_cannot_steer_the_terminal() -> None:
    text = render(Diagnostic("DC141", "operator 'a\x1b[31m\x07\u202eb' is not part of ONNX", got="層\tx\ny"))
    assert text == ("error[DC141]: operator 'a\\x1b[31m\\x07\\u202eb' is not part of ONNX\n  got:  層\tx\ny")


def test_weights_of_a_type_that_onnx_lacks() -> None:
    g = Graph()
    proto = g.finish(g.Add(g.input(2), g.c(np.ones(2, np.float32))))
    proto.graph.initializer[0].data_type = 99
    constant = onnx.helper.make_node("Constant", [], ["k"], name="K", value=proto.graph.initializer[0])
    proto.graph.node.insert(0, constant)
    with pytest.raises(DeployccError) as caught:
        check_stored(proto)
    name = proto.graph.initializer[0].name
    assert [(d.code, d.message, d.got) for d in caught.value.diagnostics] == [
        ("DC110", f"the tensor '{who}' has an element type that ONNX does not have", "data_type 99")
        for who in (name, "K")
    ]
