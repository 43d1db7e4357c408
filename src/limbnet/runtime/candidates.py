"""What an engine returns whose graph finds peaks and scores limbs: small tables, of which the host makes people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.bottomup import Candidates, group_candidates, not_finite_warning
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import SpecError
from limbnet.models.info import ModelInfo

#: Settings that act after the graph, so that any value may be asked for.
OF_THE_HOST = frozenset({"min_joints", "min_score"})


@dataclass(frozen=True)
class PeakTables:
    """The peaks of B pictures and the scores of all limb candidates, as the graph returns them.

    Attributes:
        peaks: (B, K, M, 4) float32: x and y in pixels of the network's input, heatmap value, and 1 where there is a
            peak; those that are there come first, in raster order.
        peaks_found: (B, K) float32, peaks of each joint before the cap M.
        limb_scores: (B, L, M, M) float32, score of each start and end peak, 0 where they do not connect.
        not_finite: (B, 2) float32, values of the heatmaps and of the part affinity fields that were no finite numbers.
    """

    peaks: NDArray[np.float32]
    peaks_found: NDArray[np.float32]
    limb_scores: NDArray[np.float32]
    not_finite: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.peaks)

    def people(self, index: int, info: ModelInfo, settings: DecoderSettings) -> People:
        """Group the peaks of picture `index`, in pixels of the network's input."""
        return group_candidates(self.candidates(index, info, settings), info.skeleton, settings)

    def candidates(self, index: int, info: ModelInfo, settings: DecoderSettings) -> Candidates:
        """Return picture `index` as `find_candidates` would.

        Raises:
            SpecError: the graph followed other settings, and these cannot be had any more.
        """
        check_settings(info.decoder, settings)
        peaks, found = self.peaks[index], self.peaks_found[index].astype(np.intp)
        most = int(np.minimum(found, peaks.shape[1]).max(initial=0))
        peaks, scores = peaks[:, :most, :3], self.limb_scores[index, :, :most, :most]
        if settings.heatmap_threshold > info.decoder.heatmap_threshold:
            kept = peaks[:, :, 2] > settings.heatmap_threshold
            found = found - np.count_nonzero(~kept & (peaks[:, :, 2] > 0), axis=1)
            starts, ends = info.skeleton.limb_starts, info.skeleton.limb_ends
            peaks = np.where(kept[:, :, None], peaks, np.float32(0))
            scores = np.where(kept[starts, :, None] & kept[ends, None, :], scores, np.float32(0))
        counts = zip(("heatmaps", "part affinity fields"), self.not_finite[index].tolist(), strict=True)
        warnings = tuple(not_finite_warning(name, int(count)) for name, count in counts if count)
        return Candidates(peaks, scores, found, warnings)


def check_settings(own: DecoderSettings, wanted: DecoderSettings) -> None:
    """Raise a `SpecError` unless a graph that decodes by its `own` settings leaves room for the `wanted` ones.

    What acts after the graph is free, and of its peaks a higher heatmap threshold keeps some.
    """
    built_in, asked = own.to_dict(), wanted.to_dict()
    wrong = [name for name in built_in if name not in OF_THE_HOST and asked[name] != built_in[name]]
    if wanted.heatmap_threshold > own.heatmap_threshold:
        wrong.remove("heatmap_threshold")
    if wrong:
        listed = ", ".join(f"{name} {asked[name]} (built in: {built_in[name]})" for name in wrong)
        raise SpecError(
            f"The model decodes inside its graph and cannot change {listed}.",
            "Leave it out, or export the model with --decode none. Only a higher heatmap_threshold can be had.",
        )
