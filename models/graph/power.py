"""Power normalisation of features, after Perronnin et al. 2010, "Improving the Fisher Kernel for Large-Scale Image
Classification", section 3.3."""

from __future__ import annotations

import paddle

from deploy.errors import UserError

POWERS = (1.0, 0.75, 0.5)  # those that square roots can compute: a general power takes several times as long
LEAST = 1e-12  # keeps the root of 0 away from 0: 0 is divided by it


def check_power(power: float) -> None:
    """Raise UserError unless `power` is one of POWERS."""
    if power not in POWERS:
        raise UserError(f"--power {power:g}: choose one of {', '.join(f'{one:g}' for one in POWERS)}")


def normalised(values: paddle.Tensor, power: float) -> paddle.Tensor:
    """Raise the magnitude of float32 values to `power`, one of POWERS, and keep their sign; 1 does nothing.

    Values of any shape. With a power below 1, large values count less in distances, and small ones more.
    """
    if power == 1:
        return values
    root = paddle.sqrt(paddle.abs(values) + LEAST)
    return values / (root if power == 0.5 else paddle.sqrt(root))
