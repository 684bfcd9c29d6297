"""The images whose inner maps are kept."""

from dataclasses import replace

from wsol_core.data.index import ImageIndex
from wsol_core.data.shown_images import SHOWN, shown_images


def test_few_test_images_are_all_shown(small_index: ImageIndex) -> None:
    assert shown_images(small_index).table.equals(small_index.split("test"))


def test_without_a_test_split_images_of_all_are_shown(small_index: ImageIndex) -> None:
    train = replace(small_index, table=small_index.split("train-weaksup"))
    assert shown_images(train).table.equals(train.table)


def test_many_images_are_thinned_evenly_to_the_limit(small_index: ImageIndex) -> None:
    table = small_index.table.loc[small_index.table.index.repeat(10)]
    found = shown_images(replace(small_index, table=table[table["split"] != "test"])).table["image_id"].tolist()
    assert len(found) == SHOWN
    assert found == sorted(found)
    assert (found[0], found[-1]) == ("00", "19")
