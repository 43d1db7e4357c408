"""PoseEstimator: from pictures to poses, one at a time or as a stream."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.settings import DecoderSettings
from limbnet.devices import available_cores
from limbnet.errors import LimbnetError, SpecError
from limbnet.geometry import LARGEST_SCALE, Fit, FitMode, fit
from limbnet.models.info import ModelInfo
from limbnet.poses import Poses
from limbnet.runtime.candidates import check_settings
from limbnet.runtime.engine import Engine, Maps, Output, most_started, start
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.pipeline import Pipeline, Stages
from limbnet.runtime.views import View, mean_maps, plan_views
from limbnet.skeleton import Skeleton

if TYPE_CHECKING:  # reading specs takes half of a cold start, and many a caller has none
    from limbnet.specs.inference import InferenceSpec

log = logging.getLogger(__name__)

Source = TypeVar("Source")


@dataclass(frozen=True)
class Result(Generic[Source]):
    """What `PoseEstimator.stream` says about one picture.

    Attributes:
        index: its place in the stream, from 0.
        source: the item as it was handed in.
        poses: who was found, None when the picture could not be read.
        error: why it could not be read.
        picture: (h, w, 3) uint8 RGB when the stream keeps pictures, else None.
        warnings: what the user should know about this picture.
    """

    index: int
    source: Source
    poses: Poses | None
    error: LimbnetError | None = None
    picture: NDArray[np.uint8] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Prepared:
    """A picture that fills the network's input, or the error that kept it from it."""

    index: int
    source: Any
    views: tuple[View, ...] = ()
    images: tuple[NDArray[np.uint8], ...] = ()
    picture: NDArray[np.uint8] | None = None
    error: LimbnetError | None = None
    warnings: tuple[str, ...] = ()


_Answer = list[tuple[Output, int]]  # per view: the batch's output and the picture's place in it


class PoseEstimator:
    """Finds people in pictures with one engine.

    Args:
        engine: runs the network.
        input_size: (height, width) of the network's input, multiples of its stride; the model's own when None.
        fit_mode: how pictures are fitted to it (see `limbnet.geometry.fit`); the model's own when None.
        settings: the decoder's thresholds; the model's own when None.
        scales: factors on `input_size`; the maps of all of them are averaged; the model's own when None.
        flip: average with the mirrored picture too.
        loaders: threads that read pictures in `stream`; None chooses by the machine.

    Raises:
        SpecError: `input_size` is no multiple of the stride, a scale is not positive, or the engine decodes inside its
            graph and cannot do what was asked for: average maps, or decode by other settings than its own (see
            `limbnet.runtime.candidates.check_settings`).

    An engine of a fixed input size cannot do everything; what it cannot is switched off with a warning.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        input_size: tuple[int, int] | None = None,
        fit_mode: FitMode | None = None,
        settings: DecoderSettings | None = None,
        scales: Sequence[float] | None = None,
        flip: bool = False,
        loaders: int | None = None,
    ) -> None:
        self.engine = engine
        self.input_size = input_size or engine.fixed_size or engine.info.input_size
        self.fit_mode: FitMode = fit_mode or engine.info.fit_mode
        self.settings = settings or engine.info.decoder
        self.scales = tuple(sorted(float(s) for s in (engine.info.scales if scales is None else scales))) or (1.0,)
        self.flip = flip
        self.loaders = loaders or max(1, min(8, available_cores() // 2 + 1))
        for scale in self.scales:
            if not 0 < scale <= LARGEST_SCALE:  # a model file may say anything, not-a-number too
                said = f"Scales are factors on the input size, above 0 and at most {LARGEST_SCALE}."
                raise SpecError(f"scales holds {scale:g}.", said)
        fit(self.input_size, self.input_size, self.fit_mode, self.info.stride)  # refuses what cannot be
        if engine.decode != "none":
            self._check_decoding()
        self._obey_fixed_size()

    @classmethod
    def from_spec(cls, engine: Engine, spec: InferenceSpec, **overrides: Any) -> PoseEstimator:
        """Build an estimator from an inference spec; what the spec does not say comes from the model file."""
        options: dict[str, Any] = {
            "input_size": spec.input_shape,
            "settings": replace(engine.info.decoder, **spec.thresholds()),
            "scales": {None: None, True: spec.scales, False: (1.0,)}[spec.multi_scale_inference],
        }
        if "keep_aspect_ratio_mode" in spec.model_fields_set:
            options["fit_mode"] = spec.keep_aspect_ratio_mode or "stretch"
        return cls(engine, **(options | {name: value for name, value in overrides.items() if value is not None}))

    @property
    def info(self) -> ModelInfo:
        """What the model file says about itself."""
        return self.engine.info

    @property
    def skeleton(self) -> Skeleton:
        """The joints and limbs the network knows."""
        return self.engine.info.skeleton

    def __call__(self, picture: Any) -> Poses:
        """Find the people in one picture: a path, an RGB array (h, w, 3) uint8 or a PIL image.

        Raises:
            DataError: the picture is unreadable or of another kind.
        """
        prepared = self._prepare((0, picture))
        if prepared.error is not None:
            raise prepared.error
        result = self._finish(prepared, self._start([prepared])()[0])
        for sentence in result.warnings:
            log.warning(sentence)
        assert result.poses is not None
        return result.poses

    def maps(self, picture: Any) -> tuple[Maps, Fit]:
        """Return the (averaged) maps of one picture as a batch of one, and how the picture fills the input."""
        prepared = self._prepare((0, picture))
        if prepared.error is not None:
            raise prepared.error
        return self._mean(prepared, self._start([prepared])()[0]), prepared.views[-1].fit

    def stream(
        self,
        pictures: Iterable[Source],
        keep_pictures: bool = False,
        batch: int | None = None,
        ahead: int | None = None,
    ) -> Iterator[Result[Source]]:
        """Find the people in many pictures; loading, network and decoding overlap.

        Results come in order and in constant memory. A picture that cannot be read gives a result with an `error`; any
        other exception is raised. Closing the iterator early is fine.

        Args:
            pictures: paths, arrays or PIL images; any iterable, also an endless one.
            keep_pictures: hand the original pictures on, for drawing.
            batch: most pictures in one run of the network; the engine's preference when None.
            ahead: pictures that are prepared ahead; lower it for a camera, where delay matters.
        """
        size = max(1, min(batch or self.engine.preferred_batch, self.engine.max_batch or 1 << 30))
        stages: Stages[tuple[int, Source], _Prepared, _Answer, Result[Source]] = Stages(
            load=lambda item: self._prepare(item, keep_pictures),
            key=lambda prepared: None if prepared.error else tuple(view.fit.size for view in prepared.views),
            network=self._start,
            decode=self._finish,
        )
        yield from Pipeline(stages, size, self.loaders, ahead, most_started(self.engine)).run(enumerate(pictures))

    def _prepare(self, item: tuple[int, Any], keep_picture: bool = False) -> _Prepared:
        """Read a picture and make the network's inputs of it."""
        index, source = item
        try:
            picture = as_picture(source)
        except LimbnetError as error:
            return _Prepared(index, source, error=error)
        shape = picture.shape[0], picture.shape[1]
        views, too_long = plan_views(
            shape, self.input_size, self.fit_mode, self.info.stride, scales=self.scales, flip=self.flip
        )
        notes = (
            f"A picture of {shape[1]}x{shape[0]} pixels is too long to adjust the network's input to: it was padded.",
        )
        return _Prepared(
            index,
            source,
            views,
            tuple(view.image(picture) for view in views),
            picture if keep_picture else None,
            warnings=notes if too_long else (),
        )

    def _start(self, batch: list[_Prepared]) -> Callable[[], list[_Answer]]:
        """Start the network on pictures whose views have equal sizes."""
        most = self.engine.max_batch or len(batch)
        started = [
            (first, start(self.engine, np.stack([prepared.images[view] for prepared in batch[first : first + most]])))
            for view in range(len(batch[0].views))
            for first in range(0, len(batch), most)
        ]

        def fetch() -> list[_Answer]:
            answers: list[_Answer] = [[] for _ in batch]
            for first, fetch_part in started:
                output = fetch_part()
                for place, answer in enumerate(answers[first : first + most]):
                    answer.append((output, place))
            return answers

        return fetch

    def _mean(self, prepared: _Prepared, answer: _Answer) -> Maps:
        heatmaps, pafs = [], []
        for output, place in answer:
            if not isinstance(output, Maps):
                raise self._without_maps("there are no maps")
            heatmaps.append(output.heatmaps[place])
            pafs.append(output.pafs[place])
        heat, paf = mean_maps(prepared.views, heatmaps, pafs, self.skeleton, self.info.stride)
        return Maps(heat[None], paf[None])

    def _finish(self, prepared: _Prepared, answer: _Answer | None) -> Result[Any]:
        """Group people and bring them back to the original picture."""
        if answer is None:
            return Result(prepared.index, prepared.source, None, prepared.error)
        output, place = answer[0]
        if len(answer) > 1:
            output, place = self._mean(prepared, answer), 0
        people = output.people(place, self.info, self.settings)
        fit = prepared.views[-1].fit
        poses = Poses(
            fit.original(people.keypoints).astype(np.float32),
            people.joint_scores,
            people.scores,
            self.skeleton,
            fit.picture,
        )
        found = prepared.warnings + people.warnings
        return Result(prepared.index, prepared.source, poses, picture=prepared.picture, warnings=found)

    def _check_decoding(self) -> None:
        """Raise a `SpecError` when an engine that decodes inside its graph was asked for what only the host can do."""
        if self.flip or self.scales != (1.0,):
            raise self._without_maps("maps of several scales, or of the mirrored picture, cannot be averaged")
        check_settings(self.info.decoder, self.settings)

    def _without_maps(self, so: str) -> SpecError:
        return SpecError(
            f"The model ({self.engine.name}) decodes inside its graph: {so}.",
            "Use one scale without mirroring, or export the model with --decode none.",
        )

    def _obey_fixed_size(self) -> None:
        """Switch off what an engine of a fixed input size cannot do, saying so."""
        fixed = self.engine.fixed_size
        if fixed is None:
            return
        what = f"The engine ({self.engine.name}) takes inputs of {fixed[0]}x{fixed[1]} (height x width) only: "
        if self.input_size != fixed:
            log.warning(f"{what}{self.input_size[0]}x{self.input_size[1]} is not used.")
            self.input_size = fixed
        if self.fit_mode == "adjust_network_input":
            log.warning(f"{what}pictures are padded (pad_image_input).")
            self.fit_mode = "pad_image_input"
        if self.scales != (1.0,):
            log.warning(f"{what}multi-scale inference is switched off.")
            self.scales = (1.0,)
