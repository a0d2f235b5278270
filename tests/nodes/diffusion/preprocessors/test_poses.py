"""Poses: from COCO's points to OpenPose's, and how they are drawn."""

from __future__ import annotations

import pytest

from nodes.diffusion.preprocessors import poses

COCO = {
    "nose": 0,
    "left eye": 1,
    "right ear": 4,
    "left shoulder": 5,
    "right shoulder": 6,
    "right wrist": 10,
    "left ankle": 15,
}
OPENPOSE = {"nose": 0, "neck": 1, "right wrist": 4, "left ankle": 13, "left eye": 15, "right ear": 16}


def test_points_come_in_openposes_order_and_the_neck_between_the_shoulders():
    places = [(float(i), 10.0 * i) for i in range(17)]
    found = poses.openpose(places, [0.9] * 17)
    for name in ("nose", "right wrist", "left ankle", "left eye", "right ear"):
        assert found[OPENPOSE[name]] == (*places[COCO[name]], 0.9)
    assert found[OPENPOSE["neck"]] == (5.5, 55.0, 0.9) and len(found) == 18


def test_what_is_not_seen_is_missing():
    scores = [0.9] * 17
    scores[COCO["left shoulder"]] = 0.1
    found = poses.openpose([(1.0, 2.0)] * 17, scores)
    assert found[OPENPOSE["neck"]] is None and found[5] is None and found[2] == (1.0, 2.0, 0.9)
    document = poses.document([found], 64, 48)
    assert document["people"][0]["pose_keypoints_2d"][:6] == [1.0, 2.0, 1.0, 0.0, 0.0, 0.0]
    assert (document["canvas_height"], document["canvas_width"]) == (64, 48)
    assert document["people"][0]["hand_left_keypoints_2d"] is None


@pytest.mark.parametrize(("size", "is_bold", "half"), [(64, False, 4), (64, True, 4), (1200, True, 12)])
def test_a_limb_is_a_stick_between_two_joints(size, is_bold, half):
    points: list[poses.Point | None] = [None] * 18
    points[2], points[3] = (10.0, 32.0, 1.0), (50.0, 32.0, 1.0)  # right shoulder and elbow
    found = poses.drawn([points], size, size, is_bold=is_bold)
    assert found[:, 32, 10].tolist() == [255, 170, 0] and found[:, 32, 50].tolist() == [255, 255, 0]
    assert found[:, 32, 30].tolist() == [153, 102, 0]  # 0.6 of the limb's colour, which is its third joint's
    rows = found[0, :64, 30].nonzero().flatten()
    assert abs(int(rows.max() - rows.min()) - 2 * half) <= 1
    assert (found[:, :, 58:] == 0).all()


def test_a_limb_needs_both_joints():
    points: list[poses.Point | None] = [None] * 18
    points[0] = (20.0, 20.0, 1.0)
    found = poses.drawn([points], 64, 64, is_bold=False)
    assert found[:, 20, 20].tolist() == [255, 0, 0] and 45 < int((found[0] > 0).sum()) < 75
    assert (poses.drawn([], 64, 64, is_bold=False) == 0).all()
