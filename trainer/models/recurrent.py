"""One layer of LSTM cells that TorchScript runs faster than nn.LSTM, and with ReLU if asked to."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]  # torch documents it, unlisted


class Recurrent(nn.Module):
    """Hochreiter & Schmidhuber, "Long Short-Term Memory", 1997; weights are those of nn.LSTM.

    nn.LSTM computes wherever its backward pass is needed, and on CUDA. In a scripted module on a
    CPU the cells are unrolled: the input is projected by one product for all steps, or by one for
    an input that never changes, and the three sigmoids are one call. With `relu` (as Keras calls
    activation="relu") candidate and output use ReLU instead of tanh, which nn.LSTM cannot.
    """

    def __init__(self, inputs: int, units: int, *, relu: bool = False) -> None:
        super().__init__()
        self.lstm = nn.LSTM(inputs, units, batch_first=True)
        self.units = units
        self.relu = relu

    def forward(
        self, x: Tensor
    ) -> Tensor:  # [B, T, inputs] -> the state at each step, [B, T, units]
        if self.unrolls(x):
            return self.unrolled(x, x.shape[1])
        states: Tensor = self.lstm(x)[0]
        return states

    def repeated(self, x: Tensor, steps: int) -> Tensor:
        """The states [B, steps, units] when every step's input is the same x [B, inputs]."""
        if self.unrolls(x):
            return self.unrolled(x.unsqueeze(1), steps)
        states: Tensor = self.lstm(x.unsqueeze(1).expand(-1, steps, -1))[0]
        return states

    def unrolls(self, x: Tensor) -> bool:
        return self.relu or (is_scripting() and not x.is_cuda)

    def unrolled(self, x: Tensor, steps: int) -> Tensor:  # [B, steps or 1, inputs]
        weight, inner = self.lstm.weight_ih_l0, self.lstm.weight_hh_l0
        bias, more = self.lstm.bias_ih_l0, self.lstm.bias_hh_l0
        assert isinstance(weight, Tensor)
        assert isinstance(inner, Tensor)
        assert isinstance(bias, Tensor)
        assert isinstance(more, Tensor)
        inner = self.ordered(inner).t()
        given = nn.functional.linear(
            x.transpose(0, 1), self.ordered(weight), self.ordered(bias + more)
        )  # [steps or 1, B, 4 units]
        units = self.units
        h = given.new_zeros([given.shape[1], units])
        c = given.new_zeros([given.shape[1], units])
        states: list[Tensor] = []
        for step in range(steps):
            gates = torch.addmm(given[min(step, given.shape[0] - 1)], h, inner)
            opened = gates[:, : 3 * units].sigmoid()  # input, forget, output
            candidate = self.activated(gates[:, 3 * units :])
            c = torch.addcmul(opened[:, :units] * candidate, opened[:, units : 2 * units], c)
            h = opened[:, 2 * units :] * self.activated(c)
            states.append(h)
        return torch.stack(states, dim=1)

    def ordered(self, parameter: Tensor) -> Tensor:
        """Gates from nn.LSTM's order (input, forget, candidate, output): the candidate last."""
        i, f, g, o = parameter.chunk(4)
        return torch.cat((i, f, o, g))

    def activated(self, x: Tensor) -> Tensor:
        return x.relu() if self.relu else x.tanh()
