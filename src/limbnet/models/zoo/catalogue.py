"""The catalogue of published networks: what each is and costs, what its authors report, where its weights come from.

Everything here is a plain value, so listing the zoo imports no network. The counts are measured by `zoo.count` on our
networks and pinned by tests; published values are quoted beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limbnet.errors import UsageError, nearest

#: Which tensors a network returns, and so which decoder it needs.
Head = Literal["joint_maps", "tag_maps", "offset_maps", "part_maps", "pose_scores"]
#: How pixel values reach the network: ImageNet's mean and deviation of RGB / 255, or BGR / 256 - 0.5, or no picture.
Normalisation = Literal["imagenet_rgb", "openpose_bgr", "none"]
#: How a published GFLOPs value comes out of our multiply-adds.
Convention = Literal["1e9", "1024^3", "1e9, transposed convolution at its output size", "not reproduced", ""]

RESEARCH_ONLY = "non-commercial research only"


@dataclass(frozen=True)
class Published:
    """What the authors report on COCO val2017, in percent, with their own settings.

    Attributes:
        ap: AP; top-down with detected boxes (person AP 56.4) and flip test, bottom-up at one scale with flip.
        ap_true_boxes: AP with ground-truth boxes and flip test, where published.
        ap_multi_scale: AP at the scales 0.5, 1 and 2 with flip.
        gflops: their GFLOPs.
        convention: how that value comes out of our multiply-adds.
        note: what else to know before comparing.
    """

    ap: float | None = None
    ap_true_boxes: float | None = None
    ap_multi_scale: float | None = None
    gflops: float | None = None
    convention: Convention = ""
    note: str = ""


@dataclass(frozen=True)
class ZooEntry:
    """One published network.

    Attributes:
        name: what `create_model` takes.
        system: the publication's name.
        head: which tensors come out.
        joints: joints the released weights know.
        input_size: (height, width) of the published setting; the rescoring network takes no picture and has none.
        multiple: both sides of other input sizes must be multiples of it.
        parameters: all parameters; TransPose's fixed embedding counts.
        learnable: parameters that training changes.
        multiply_adds: of one forward pass at `input_size`, batch 1, as `zoo.count.multiply_adds` counts them.
        entries: tensors in the official state dict.
        fingerprint: `zoo.count.fingerprint` of the official names and shapes.
        licence: licence of the released weights.
        files: official file names.
        prefixes: what an official or training checkpoint may put before every name, as regular expressions.
        normalisation: how pixel values reach the network.
        published: what the authors report.
    """

    name: str
    system: str
    head: Head
    joints: int
    input_size: tuple[int, int] | None
    multiple: int
    parameters: int
    learnable: int
    multiply_adds: int
    entries: int
    fingerprint: str
    licence: str
    files: tuple[str, ...]
    prefixes: tuple[str, ...] = (r"module\.",)
    normalisation: Normalisation = "imagenet_rgb"
    published: Published = Published()


def _hrnet_w32(name: str, system: str, licence: str, file: str, published: Published) -> ZooEntry:
    return ZooEntry(
        name=name, system=system, head="joint_maps", joints=17, input_size=(256, 192), multiple=32,
        parameters=28_536_113, learnable=28_536_113, multiply_adds=7_645_003_776,
        entries=1754, fingerprint="dc3031e5c721631048a6bb6c4054e8860d1879a7390416bbde4ee8821d70162c",
        licence=licence, files=(file,), published=published,
    )  # fmt: skip


def _hrnet_w48(name: str, system: str, licence: str, file: str, published: Published) -> ZooEntry:
    return ZooEntry(
        name=name, system=system, head="joint_maps", joints=17, input_size=(384, 288), multiple=32,
        parameters=63_595_745, learnable=63_595_745, multiply_adds=35_306_606_592,
        entries=1754, fingerprint="dbe2649ebd98de226bcc46e569a8930b7e42c2035d3a9d482bb43341b631927d",
        licence=licence, files=(file,), published=published,
    )  # fmt: skip


_DEKR_NOTE = "AP includes the rescoring network."
_LITE_NOTE = (
    "Published with 0.01 GFLOPs more than a count of every layer once; counted as run, repeats included, it is more."
)

_ENTRIES = (
    _hrnet_w32(
        "hrnet_w32_256x192", "HRNet-W32", "MIT", "pose_hrnet_w32_256x192.pth",
        Published(74.4, 76.5, gflops=7.1, convention="1024^3"),
    ),
    _hrnet_w48(
        "hrnet_w48_384x288", "HRNet-W48", "MIT", "pose_hrnet_w48_384x288.pth",
        Published(76.3, gflops=32.9, convention="1024^3"),
    ),
    _hrnet_w32(
        "fpd_hrnet_w32_256x192", "FPD HRNet-W32", "MIT", "pose_hrnet_w32_student_FPD.pth",
        Published(75.1, gflops=7.1, convention="1024^3"),
    ),
    _hrnet_w32(
        "darkpose_hrnet_w32_256x192", "DarkPose HRNet-W32", "Apache-2.0", "w32_256×192.pth",
        Published(75.6, gflops=7.1, convention="1024^3"),
    ),
    _hrnet_w48(
        "darkpose_hrnet_w48_384x288", "DarkPose HRNet-W48", "Apache-2.0", "w48_384×288.pth",
        Published(76.8, gflops=32.9, convention="1024^3"),
    ),
    ZooEntry(
        name="transpose_r_a3_256x192", system="TransPose-R-A3", head="joint_maps", joints=17,
        input_size=(256, 192), multiple=8,
        parameters=5_195_345, learnable=4_998_737, multiply_adds=5_413_797_888,
        entries=190, fingerprint="457c0d66e8145852e5f0738626538f12536428ba75b2451a074e08429b25aeaf",
        licence="MIT", files=("tp_r_256x192_enc3_d256_h1024_mh8.pth",),
        published=Published(71.7, 73.8, gflops=8.0, convention="not reproduced"),
    ),
    ZooEntry(
        name="transpose_h_a6_256x192", system="TransPose-H-A6", head="joint_maps", joints=17,
        input_size=(256, 192), multiple=16,
        parameters=17_455_697, learnable=17_160_785, multiply_adds=21_282_324_480,
        entries=1006, fingerprint="54cb641d9eaa9e5440ebb34e6d75d908e6d8c30050f70f75d3d7079fd86f8a77",
        licence="MIT", files=("tp_h_48_256x192_enc6_d96_h192_mh1.pth",),
        published=Published(75.8, 78.1, gflops=21.8, convention="not reproduced"),
    ),
    ZooEntry(
        name="naive_litehrnet_18_256x192", system="naive Lite-HRNet-18", head="joint_maps", joints=17,
        input_size=(256, 192), multiple=32,
        parameters=760_365, learnable=760_365, multiply_adds=185_517_888,
        entries=1610, fingerprint="eb429bbe5424506b57a4d83bd81278d47df2f1f4bfa5f1f84ae6abf21182634c",
        licence="Apache-2.0", files=("naive_litehrnet_18_coco_256x192.pth",),
        published=Published(62.8, gflops=0.1948, convention="not reproduced", note=_LITE_NOTE),
    ),
    ZooEntry(
        name="litehrnet_18_256x192", system="Lite-HRNet-18", head="joint_maps", joints=17,
        input_size=(256, 192), multiple=32,
        parameters=1_130_769, learnable=1_130_769, multiply_adds=198_626_688,
        entries=1418, fingerprint="726c83858862f01ea65da89c8950c3e26cd28cfc2dd73dc1c9b6748484583a6a",
        licence="Apache-2.0", files=("litehrnet_18_coco_256x192.pth",),
        published=Published(64.8, gflops=0.2052, convention="not reproduced", note=_LITE_NOTE),
    ),
    ZooEntry(
        name="higherhrnet_w32_512", system="HigherHRNet-W32", head="tag_maps", joints=17,
        input_size=(512, 512), multiple=32,
        parameters=28_645_331, learnable=28_645_331, multiply_adds=46_203_404_288,
        entries=1810, fingerprint="2570d0acc5532b3dfd0d125957712727b76d07948e8a4fbba1d23f4eb91a72b8",
        licence="MIT", files=("pose_higher_hrnet_w32_512.pth",), prefixes=(r"module\.", r"1\."),
        published=Published(
            67.1, ap_multi_scale=69.9, gflops=47.9, convention="1e9, transposed convolution at its output size"
        ),
    ),
    ZooEntry(
        name="dekr_w32_512", system="DEKR-W32", head="offset_maps", joints=17,
        input_size=(512, 512), multiple=32,
        parameters=29_561_182, learnable=29_561_182, multiply_adds=45_385_056_256,
        entries=2264, fingerprint="600765358cbc236d09fc1733c3324ab264d1f56837b8d4f9d0faba3b1de58f4d",
        licence="MIT", files=("pose_dekr_hrnetw32_coco.pth",),
        published=Published(68.0, ap_multi_scale=70.7, gflops=45.4, convention="1e9", note=_DEKR_NOTE),
    ),
    ZooEntry(
        name="dekr_w48_640", system="DEKR-W48", head="offset_maps", joints=17,
        input_size=(640, 640), multiple=32,
        parameters=65_684_590, learnable=65_684_590, multiply_adds=141_526_732_800,
        entries=2264, fingerprint="b79e55a6802dea4a4f73ef8a11f2a0f6a5d9cb73c5b3ad8242d9399c9e884a5b",
        licence="MIT", files=("pose_dekr_hrnetw48_coco.pth",),
        published=Published(
            71.0, ap_multi_scale=72.3, gflops=141.5, convention="1e9",
            note=f"{_DEKR_NOTE} The same weights run at 512, where no AP is published.",
        ),
    ),
    ZooEntry(
        name="dekr_rescore_coco", system="DEKR rescoring", head="pose_scores", joints=17,
        input_size=None, multiple=1,
        parameters=85_249, learnable=85_249, multiply_adds=84_736,
        entries=6, fingerprint="d4b0eb69862086a407f2518bcb04a93ac5f9dbc7619efeb25ae0284ceefcd976",
        licence="MIT", files=("final_rescore_coco_kpt.pth",), normalisation="none",
    ),
    ZooEntry(
        name="openpose_body25", system="OpenPose BODY_25", head="part_maps", joints=25,
        input_size=(368, 496), multiple=8,
        parameters=26_166_084, learnable=26_166_084, multiply_adds=108_598_684_160,
        entries=327, fingerprint="1045819d358ca42f7a4e48de954d046c7eb2d296b7b886f7812da04656e7a2ca",
        licence=RESEARCH_ONLY, files=("pose_iter_584000.caffemodel",), normalisation="openpose_bgr",
        published=Published(note="Height 368; the width follows the picture, up to 656."),
    ),
    ZooEntry(
        name="openpose_coco", system="OpenPose COCO", head="part_maps", joints=18,
        input_size=(368, 496), multiple=8,
        parameters=52_311_446, learnable=52_311_446, multiply_adds=183_215_400_448,
        entries=184, fingerprint="1d6011e9f0f9ae3f64232daf6c438ef8ecf012520af1b5eda32f58094f4257a4",
        licence=RESEARCH_ONLY, files=("pose_iter_440000.caffemodel", "body_pose_model.pth"),
        normalisation="openpose_bgr", prefixes=(r"module\.", r"model\d(_\d)?\."),
        published=Published(note="Height 368; the width follows the picture, up to 656."),
    ),
)  # fmt: skip

#: All networks by name, in the order of the study.
CATALOGUE: dict[str, ZooEntry] = {entry.name: entry for entry in _ENTRIES}


def find(name: str) -> ZooEntry:
    """Return the entry called `name`.

    Raises:
        UsageError: no such network; names the nearest one and all others.
    """
    if name not in CATALOGUE:
        raise UsageError(
            f"The zoo has no network '{name}'.{nearest(name, CATALOGUE)}",
            "Known: " + ", ".join(CATALOGUE) + ". `limbnet zoo list` shows them all.",
        )
    return CATALOGUE[name]
