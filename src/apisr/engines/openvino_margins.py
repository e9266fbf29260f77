"""Networks of OpenVINO that give the middle of their output only, and compute no more than the middle needs.

A window goes through a network with a margin, whose output is thrown away. Each convolution needs less of it than the
one before: where it adds no zeros around its input, its output is smaller by what it looks at. The middle keeps its
bits. Of 64x48 pixels with all of their margin, a window takes .65 of the time (``apisr-x2``, ``apisr-x2-fast``) or .20
(``apisr-x4-fast``, which looks 88 pixels far); a picture of 640x360 with its rim takes .97, .99 and .99.
"""

from __future__ import annotations

import importlib
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from apisr.engines.pixels import NO_MARGINS, Margins, on_all_sides

if TYPE_CHECKING:
    from openvino import Input, Node, Output
    from openvino import Model as Network

#: Every cut in the middle of a network is a copy; one that needs more of them gains nothing.
_MOST_CUTS = 6
_TO_THE_END = np.iinfo(np.int64).max
#: A network for some margins is compiled after so many pixels of windows that have them,
_PAYS_PX = 2**19
#: for windows of at most so many pixels,
_LARGEST_PX = 2**19
#: and memory for windows of so many pixels in all is kept.
_KEPT_PX = 2**21


class WindowMargins:
    """For which margins an engine's network is compiled of its own.

    On each side of a window lies either its halo, or the rim of the picture. Whole pictures have a rim around them, and
    what is left away there is always worth it. Others have one compiled after a while.

    Args:
        halo_px: of the network.
        rim_px: by how much pictures are continued for it.
    """

    def __init__(self, halo_px: int, rim_px: int) -> None:
        self._levels = sorted({0, halo_px, rim_px})
        self._rim_px = rim_px
        self._seen_px: Counter[object] = Counter()
        self._largest_px: OrderedDict[object, int] = OrderedDict()
        #: Whether all are compiled at once: to measure them.
        self.at_once = False

    def worth(self, kind: str, margins: Margins, window_px: int) -> Margins:
        """Return the margins, at most those that are given, that the network for a window shall leave away itself."""
        best = _each(lambda px: max(level for level in self._levels if level <= px), margins)
        around = self._around(margins)
        if best == around or window_px > _LARGEST_PX:
            return around
        self._seen_px[kind, best] += window_px
        return best if self.at_once or self._seen_px[kind, best] >= _PAYS_PX else around

    def used(self, key: object, margins: Margins, window_px: int) -> list[object]:
        """Note that a network was used; return the keys of those that shall go, because all hold too much memory."""
        if margins == self._around(margins):
            return []
        self._largest_px[key] = max(window_px, self._largest_px.pop(key, 0))
        gone: list[object] = []
        while sum(self._largest_px.values()) > _KEPT_PX:
            gone.append(self._largest_px.popitem(last=False)[0])
        return gone

    def _around(self, margins: Margins) -> Margins:
        return on_all_sides(self._rim_px) if min(margins) >= self._rim_px else NO_MARGINS


class _Cut(NamedTuple):
    """What is not needed of a picture inside a network.

    Attributes:
        px: at the top, the bottom, the left and the right, on the picture's own grid.
        axes: rows and columns.
    """

    px: Margins
    axes: tuple[int, int]


class _Step(NamedTuple):
    """A node that gives less.

    Attributes:
        node: the node, or the one in its place.
        done: by how much its output is smaller.
        before: what it does not need of its inputs.
    """

    node: Node
    done: Margins
    before: _Cut


def without_margins(network: Network, margins: Margins, *, scale: int, axes: tuple[int, int]) -> Network:
    """Return a network that gives the output of another without its margins, with the same bits.

    Args:
        network: with one picture on both sides; it is not changed.
        margins: what is cut from the output, in pixels of the input.
        scale: by how much the network enlarges.
        axes: rows and columns of its output.

    Returns:
        Another network. Where too much had to be copied on the way, only the end is cut.
    """
    cut = _Cut(_each(lambda px: scale * px, margins), axes)
    inner = network.clone()
    if not _cut_on_the_way(inner, cut):
        inner = network.clone()
        (result,) = inner.get_results()
        result.input(0).replace_source_output(_sliced(result.input_value(0), cut.px, axes))
    inner.validate_nodes_and_infer_types()
    return inner


def _cut_on_the_way(network: Network, cut: _Cut) -> bool:
    """Change a network so that it gives less; tell whether that could be done with few copies."""
    pictures = _pictures(network)
    (result,) = network.get_results()
    needed: dict[str, list[tuple[Input, _Cut]]] = {_producer(result.input(0)): [(result.input(0), cut)]}
    cuts = 0
    for node in reversed(network.get_ordered_ops()):
        targets = needed.pop(node.get_name(), [])
        if not targets:
            continue
        step = _step(node, _least([cut for _, cut in targets]))
        if not _gives(step, targets, node):
            return False
        cuts += len({cut.px for _, cut in targets} - {step.done})
        for place in step.node.inputs():
            if _producer(place) in pictures:
                needed.setdefault(_producer(place), []).append((place, step.before))
    return cuts <= _MOST_CUTS


def _gives(step: _Step, targets: list[tuple[Input, _Cut]], node: Node) -> bool:
    """Connect a node that gives less with those that take it; each gets what it wants.

    Returns:
        Whether that could be done: not where a size is read from a picture that is smaller now.
    """
    if any(step.done):
        readers = _size_readers(node)
        if readers is None:
            return False
        for target in readers:
            target.replace_source_output(step.node.output(0))
    made: dict[tuple[int, Margins], Output] = {}
    for target, cut in targets:
        top, bottom, left, right = (px - done for px, done in zip(cut.px, step.done, strict=True))
        output = step.node.output(target.get_source_output().get_index())
        key = (output.get_index(), cut.px)
        if key not in made:
            made[key] = _sliced(output, (top, bottom, left, right), cut.axes)
        target.replace_source_output(made[key])
    return True


def _step(node: Node, cut: _Cut) -> _Step:
    """How a node gives its output without what is not needed; as a whole, where that is not known."""
    known = _KINDS.get(node.get_type_name()) if any(cut.px) else None
    return (known and known(node, cut)) or _Step(node, (0, 0, 0, 0), _Cut((0, 0, 0, 0), cut.axes))


def _pointwise(node: Node, cut: _Cut) -> _Step:
    return _Step(node, cut.px, cut)


def _convolution(node: Node, cut: _Cut) -> _Step | None:
    """With fewer zeros around the input, or none and less of the input."""
    attributes = node.get_attributes()
    pads = {*attributes["pads_begin"], *attributes["pads_end"]}
    if len(pads) > 1 or set(attributes["strides"]) != {1} or cut.axes != (2, 3):
        return None
    (pad,) = (int(value) for value in pads)
    top, bottom, left, right = _each(lambda px: max(0, pad - px), cut.px)
    nodes = importlib.import_module("openvino.opset13")
    sides = ([top, left], [bottom, right])
    inputs = node.input_value(0), node.input_value(1)
    made = nodes.convolution(*inputs, attributes["strides"], *sides, attributes["dilations"])
    return _Step(made, cut.px, _Cut(_each(lambda px: max(0, px - pad), cut.px), cut.axes))


def _transpose(node: Node, cut: _Cut) -> _Step:
    order = node.input_value(1).get_node().get_data()
    return _Step(node, cut.px, _Cut(cut.px, (int(order[cut.axes[0]]), int(order[cut.axes[1]]))))


def _shuffle(node: Node, cut: _Cut) -> _Step:
    """Whole pixels of the coarser grid; the rest is cut behind."""
    factor = int(node.get_attributes()["block_size"])
    coarse = _each(lambda px: px // factor, cut.px)
    return _Step(node, _each(lambda px: px * factor, coarse), _Cut(coarse, cut.axes))


#: Nodes whose output at a place depends on their inputs at the same place only.
_POINTWISE = ("Add", "Clamp", "Convert", "Divide", "FakeQuantize", "Floor", "Multiply", "PRelu", "Relu", "Subtract")
_KINDS: dict[str, Callable[[Node, _Cut], _Step | None]] = {
    **dict.fromkeys(_POINTWISE, _pointwise),
    "Convolution": _convolution,
    "DepthToSpace": _shuffle,
    "Transpose": _transpose,
}


def _each(change: Callable[[int], int], margins: Margins) -> Margins:
    top, bottom, left, right = margins
    return change(top), change(bottom), change(left), change(right)


def _least(cuts: list[_Cut]) -> _Cut:
    top, bottom, left, right = (min(sides) for sides in zip(*(cut.px for cut in cuts), strict=True))
    return _Cut((top, bottom, left, right), cuts[0].axes)


def _sliced(output: Output, margins: Margins, axes: tuple[int, int]) -> Output:
    if not any(margins):
        return output
    nodes = importlib.import_module("openvino.opset13")
    top, bottom, left, right = margins
    ends = [-bottom or _TO_THE_END, -right or _TO_THE_END]
    begin, end, step, places = (np.array(values, np.int64) for values in ([top, left], ends, [1, 1], axes))
    return nodes.slice(output, begin, end, step, places).output(0)


def _producer(place: Input) -> str:
    return place.get_source_output().get_node().get_name()


def _pictures(network: Network) -> set[str]:
    """Names of the nodes that give pictures: those that depend on the input, and not on its size alone."""
    found = {node.get_name() for node in network.get_parameters()}
    for node in network.get_ordered_ops():
        if node.get_type_name() != "ShapeOf" and any(_producer(place) in found for place in node.inputs()):
            found.add(node.get_name())
    return found


def _size_readers(node: Node) -> list[Input] | None:
    """What reads the size of a node's output, where it only counts the axes; None if it reads more."""
    targets = [target for output in node.outputs() for target in output.get_target_inputs()]
    readers = [target for target in targets if target.get_node().get_type_name() == "ShapeOf"]
    users = [user.get_node() for reader in readers for user in reader.get_node().output(0).get_target_inputs()]
    return readers if all(user.get_type_name() == "ShapeOf" for user in users) else None
