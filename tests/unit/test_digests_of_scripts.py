"""A pipeline of one shard runs the scripts that it ran before there were shards, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowq.broker import scripts
from flowq.broker.scripts import Script

WITHOUT_SHARDS = {
    "ADD_DEAD_LETTER": "60c15255c4e8d1bfd6177b01ae9d5d3beb8bd3cb",
    "BODY_REFERENCES": "cda1aa93929878441491fe7bd9caaea9c4cb0cdf",
    "BROWSE": "200b776654210b44321451f0effc0ae5624a6ae4",
    "CLAIM_SOURCE": "c4a56f7c38f5e3f25710cd30feb6dbf3166dc814",
    "CREATE_GROUPS": "1782d09ec5021318e35960c9b0695d2c7cb3cfb2",
    "DELAYED_FAILURES": "43a24ce77e4aac6a448a49d3a905784e2c23d0d8",
    "DEQUEUE": "3a8c287851c11253f03da38441391951639c2809",
    "DEQUEUE_ALL": "5becfc4836dc48e64919a102ae36b439f702fa63",
    "DROP_EDGE": "6fe8cff8e0a4ad38b945a7b278c2ba83ae5b4146",
    "EDGE_STATS": "ad5cc5021fcc450aa161ceaddc082b5581f1bf66",
    "EDIT_LETTERS": "1ed59e21d773e285e87657949eae66cde43b329e",
    "EXPIRE_IDLE_KEYS": "2c12b9f65aed1847fa7a632df5b739a7a3530213",
    "FIND_FAMILY": "5a1c68ca8450324341fd64d5158cc6fee9e466ca",
    "FINISH": "4889e74c8386cb3f21b497fb3b4ac6226f2f21ed",
    "FOLLOW_CLOCK": "c46513353a8fef025c782fd952c98462358cc71a",
    "FORGET_WORKERS": "a1e562877048252923458870a2d8ff8f0191c270",
    "HOLD": "2643cbecd5f0c59741ac1d80e967a74038acc75e",
    "LETTERS_BEFORE": "f15c4fb2d38db27a865ab00aca9f41d80e4efdb9",
    "LETTER_INFOS": "7d799b4bfbd0a1926d1684d08a7b44c6e49b6815",
    "MOVE_EDGE": "43a2adb31933215b8180c6b94898c2436974f071",
    "MOVE_LETTERS": "ff1f56674d989d210907acb0976f50d01818a712",
    "MOVE_SEEN": "56b384fcc993d766bd9f2ccb4ca51654d36397ed",
    "PAUSE": "28b39eebaad9a9795ea4181bc6ae443a60f31c0a",
    "PROMOTE": "1af2cce648230dbc3de2454ffde369f6851af0cd",
    "PUBLISH": "50ea3a7221fba15a4b44737c9c7bbf611781b05c",
    "PUBLISH_PLAIN": "41aa069daad2af037b01d6b7716f0c0e5983042e",
    "PURGE": "a28929bcb1d6640c40fec2209a6adb6acd5d1b7f",
    "PUT_BACK_KEPT": "6e536c1642edb772fb3df617141b6b19932c8860",
    "PUT_BACK_LETTERS": "9d7454a4dc02c37eac013a79b0e24c161c9b038e",
    "READ_LETTERS": "4b1ec4ab9c6b3c39c6bb82e7244607db7ff236a1",
    "RECLAIM": "26474781675811a74a9518b4a573575743c660fe",
    "RECORD_ACTION": "b9874ec468740af89c63c6d6831b1bbfca453e50",
    "RECORD_DEATH": "e3a91ca38c7abff03d824023baff1b6bcc17a45c",
    "RECORD_PLAN": "9e79b620926c34ff304faf0e49d5f9fbdef0bcec",
    "RECORD_THROUGHPUT": "5603694d4d55d9078e731399b2ac462ed4840ebd",
    "REGISTER": "bf4da1c90b2f43952cfccc1be7137b6c8d5ecab7",
    "REMOVE_LETTERS": "3884d3d688e4327029c343c9ddbf7e9d1215fb90",
    "RENAME_STAGE": "0f6eda1d4600076e571044dc7de15b8d1acbd2a5",
    "RESERVE": "8fccc81fce13a9b915d22ff8c58ec55ca0849b0b",
    "RESTORE_LETTERS": "1ece9cef82c3e54a8f2a011e8f1585bc677bcf07",
    "RETIRE": "0b0af00079b65f7b15b19bb878774b01fe29f138",
    "SETTLE": "0f35ea28330c2a8de916eb8b10ade52554df18db",
    "SLOWEST": "3d98c654edcebfa2b4e9400e9d6e8cf592af7f87",
    "SNAPSHOT": "7d752f76770ff32b9f35ef373859490b2b6ce0a0",
    "START_RUN": "eb599cb322a183e0d9cae7e236a9acfde16ddba0",
    "TAKE_OVER_SEEN": "967eff05619872b86c759c9ece2644dc3348e1a5",
}
"""Their digests. Change one where the script itself is meant to change, never because of something for shards."""


@pytest.mark.parametrize("name", WITHOUT_SHARDS)
def test_a_script_of_one_shard_is_what_it_was(name: str) -> None:
    assert getattr(scripts, name).digest.decode() == WITHOUT_SHARDS[name]


@pytest.mark.parametrize(("out", "within"), [(scripts.SETTLE_OUT, "settle"), (scripts.PUBLISH_OUT, "publish")])
def test_a_script_that_sends_to_other_shards_is_the_other_one_with_outboxes(out: Script, within: str) -> None:
    *lines, last = (Path(scripts.__file__).parent / "path" / f"{within}.lua").read_text().rstrip().split("\n")

    assert "\n".join(lines) in out.text.decode()
    assert last.startswith("return ")
