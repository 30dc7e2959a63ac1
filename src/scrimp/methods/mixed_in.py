"""A layer whose forward pass is changed and which stays the object that it is, in optimizers and checkpoints too."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn


class MixedIn(nn.Module):
    """Mixed in before a layer's own class, a library's or a user's: `layer.__class__ = Thinned.before(type(layer))`."""

    made: ClassVar[dict[tuple[type, type], type[nn.Module]]] = {}
    prefix: ClassVar[str]

    @classmethod
    def before(cls, plain: type[nn.Module]) -> type[nn.Module]:
        """The class `plain` with this one's forward pass; the same for the same class."""
        if (cls, plain) not in MixedIn.made:
            MixedIn.made[cls, plain] = type(f"{cls.prefix}{plain.__name__}", (cls, plain), {})
        return MixedIn.made[cls, plain]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """A pickle or a copy names both classes, since the one of them is made when it is needed."""
        return _again, type(self).__bases__, self.__dict__


def _again(mixin: type[MixedIn], plain: type[nn.Module]) -> nn.Module:
    made = mixin.before(plain)
    return made.__new__(made)
