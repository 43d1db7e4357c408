"""Schema of what every train spec has in common, whatever network it trains: the run itself, and its datasets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import AliasChoices, Field

from limbnet.specs.base import Section, written_path
from limbnet.specs.recipe import weight_mistakes


class DatasetChoice(Section):
    """Which datasets are learnt.

    limbnet's own: `dataset_weights` draws the samples of a pass from the datasets in these proportions (null: every
    sample once), `samples_per_epoch` sets an epoch's length (null: one pass), and `validation_datasets` names those
    whose test data validation measures (null: all).
    """

    dataset_specs: dict[str, Path] = Field(default_factory=dict)
    dataset_weights: dict[str, float] | None = None
    samples_per_epoch: int | None = Field(None, gt=0)
    validation_datasets: tuple[str, ...] | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from weight_mistakes(self.dataset_weights or {}, dict(self.dataset_specs))
        for name in self.validation_datasets or ():
            if name not in self.dataset_specs:
                yield "validation_datasets", f"names '{name}', which dataset_specs does not"
        if not self.dataset_specs:
            yield "dataset_specs", "names no dataset: expected at least one line 'name: path of its dataset spec'"


class TrainerSpec(Section):
    """How long a run is, what it keeps and tells, and where its weights start."""

    checkpoint_dir: Path | None = written_path(None)
    log_every_n_secs: float = Field(30, gt=0)
    checkpoint_n_epoch: int = Field(5, gt=0, validation_alias=AliasChoices("checkpoint_n_epoch", "checkpoint_interval"))
    num_epoch: int = Field(100, gt=0)
    summary_every_n_steps: int = Field(20, gt=0)
    validation_every_n_epoch: int = Field(5, ge=0, description="0 switches validation off")
    max_ckpt_to_keep: int = Field(100, gt=0)
    random_seed: int = 42
    pretrained_weights: Path | None = None
    final_model_name: str
    ema_decay: float | None = Field(None, gt=0, lt=1, description="limbnet's own: moving average of the weights")
    batch_norm_momentum: float = Field(
        0.01,
        ge=0,
        le=1,
        description="limbnet's own: the newest batch's share of batch norm's running statistics; "
        "0 trains with the running statistics as they are",
    )
    torch_compile: bool = Field(
        False,
        description="limbnet's own: compile the network by torch.compile, for every input size anew; "
        "benchmarks/README.md says where it gains",
    )
    mixed_precision: bool | None = Field(None, description="limbnet's own: null means on a GPU that gains from it")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.num_epoch % self.checkpoint_n_epoch:
            yield "checkpoint_n_epoch", f"is {self.checkpoint_n_epoch}, which must divide num_epoch {self.num_epoch}"
        if "/" in self.final_model_name or not self.final_model_name:
            yield "final_model_name", f"is '{self.final_model_name}': a file name without folders is needed"

    @property
    def epochs_skipped(self) -> int:
        """Epochs that count as done before the run begins."""
        return 0
