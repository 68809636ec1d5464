"""One layer of LSTM cells: nn.LSTM, and what it cannot do: ReLU, an input that never changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # torch documents it, unlisted


class Recurrent(nn.Module):
    """Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; weights are those of nn.LSTM.

    nn.LSTM is the fastest but for a constant input, which it projects at every step: a scripted
    module on a CPU projects it once, for 1.3 times the windows a second at 64 units. With `relu`
    (as Keras calls activation="relu") candidate and output use ReLU instead of tanh.
    """

    def __init__(self, inputs: int, units: int, *, relu: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)
        self.units = units
        self.relu = relu

    def forward(
        self, x: Tensor
    ) -> Tensor:  # [B, T, inputs] -> the state at each step, [B, T, units]
        if self.relu:
            return self.rectified(x, x.shape[1])
        states: Tensor = self.lstm(x)[0]
        return states

    def repeated(self, x: Tensor, steps: int) -> Tensor:
        """The states [B, steps, units] when every step's input is the same x [B, inputs]."""
        if self.relu:
            return self.rectified(x.unsqueeze(1), steps)
        if is_scripting() and not x.is_cuda:
            return self.projected_once(x, steps)
        states: Tensor = self.lstm(x.unsqueeze(1).expand(-1, steps, -1))[0]
        return states

    def projected_once(self, x: Tensor, steps: int) -> Tensor:
        """`repeated` without a backward pass: nothing is allocated within the steps."""
        weight, bias, inner = self.ordered()
        given = nn.functional.linear(x, weight, bias)  # [B, 4 units]
        units = self.units
        gates = torch.empty_like(given)
        states = given.new_empty([steps, given.shape[0], units])
        h = given.new_zeros([given.shape[0], units])
        c = torch.zeros_like(h)
        for step in range(steps):
            torch.addmm(given, h, inner, out=gates)
            gates[:, : 3 * units].sigmoid_()
            gates[:, 3 * units :].tanh_()
            c.mul_(gates[:, units : 2 * units]).addcmul_(gates[:, :units], gates[:, 3 * units :])
            h = states[step]
            torch.tanh(c, out=h)
            h.mul_(gates[:, 2 * units : 3 * units])
        return states.transpose(0, 1)

    def rectified(self, x: Tensor, steps: int) -> Tensor:  # [B, steps or 1, inputs]
        weight, bias, inner = self.ordered()
        given = nn.functional.linear(x.transpose(0, 1), weight, bias)  # [steps or 1, B, 4 units]
        units = self.units
        h = given.new_zeros([given.shape[1], units])
        c = torch.zeros_like(h)
        states: list[Tensor] = []
        for step in range(steps):
            gates = torch.addmm(given[min(step, given.shape[0] - 1)], h, inner)
            opened = gates[:, : 3 * units].sigmoid()
            candidate = gates[:, 3 * units :].relu()
            c = torch.addcmul(opened[:, :units] * candidate, opened[:, units : 2 * units], c)
            h = opened[:, 2 * units :] * c.relu()
            states.append(h)
        return torch.stack(states).transpose(0, 1)

    def ordered(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, bias and inner weight with the gates input, forget, output, candidate."""
        weight, inner = self.lstm.weight_ih_l0, self.lstm.weight_hh_l0
        bias, more = self.lstm.bias_ih_l0, self.lstm.bias_hh_l0
        assert isinstance(weight, Tensor)
        assert isinstance(inner, Tensor)
        assert isinstance(bias, Tensor)
        assert isinstance(more, Tensor)
        i, f, g, o = torch.cat((weight, (bias + more).unsqueeze(1), inner), dim=1).chunk(4)
        joined = torch.cat((i, f, o, g))  # [4 units, inputs + 1 + units]
        inputs = weight.shape[1]
        return joined[:, :inputs], joined[:, inputs], joined[:, inputs + 1 :].t()
