"""Types of the answers, for the OpenAPI page.

There is no `from __future__ import annotations` here: Python 3.9 cannot resolve the newest annotations from text.
"""

from typing import Optional

from pydantic import BaseModel, Field


class Region(BaseModel):
    """Connected pixels of the map above the pixel threshold; lengths are in pixels of the picture itself."""

    number: int = Field(description="1 and up, those of the largest map values first")
    x: float
    y: float
    width: float
    height: float
    area: float
    centroid_x: float
    centroid_y: float
    maximum: float = Field(description="the largest map value inside")
    p_value: float = Field(description="the share of good pictures whose map has a value as high, at most")


class Score(BaseModel):
    """What was found in a picture; the numbers are those of `infer.py --jsonl` and `--save_regions`."""

    score: float = Field(description="raw image score, 0 and up")
    scaled: Optional[float] = Field(
        description="0 is the median of good pictures, 0.5 the model's own threshold; null where it is infinite"
    )
    defective: bool = Field(description="the verdict: whether the score is above the threshold in use")
    p_value: float = Field(description="the share of good pictures whose score is as high, at most")
    p_tail: Optional[float] = Field(description="the same by a fitted tail, where no good picture scores as high")
    height: int = Field(description="of the picture in pixels, after its EXIF rotation")
    width: int
    regions: list[Region]
    heat_map: Optional[str] = Field(default=None, description="PNG in base64, where it was asked for")


class Model(BaseModel):
    """A model that can be asked."""

    name: str
    about: str
    up: bool = Field(description="false while its process is being started again")


class Health(BaseModel):
    """Whether all models answer."""

    status: str


class Refusal(BaseModel):
    """Why there is no answer."""

    detail: str
