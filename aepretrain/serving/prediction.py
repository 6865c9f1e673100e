"""What a finished training makes of pictures: classes, or codes.

Shapes: N pictures, K classes, D code features.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import batched
