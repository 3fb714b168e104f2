"""Manifests that nobody meant: whatever text comes, it is read or refused with an error that says why."""

from __future__ import annotations

from pathlib import Path
from random import Random

from podwire import errors, manifest
from tests.fuzzing import Fuzzer

_SEED = 20_261_122
_DOCUMENTS = 10_000
_EXAMPLES = Path(__file__).parents[3] / "examples"


def test_ten_thousand_damaged_manifests_are_read_or_refused() -> None:
    texts = [file.read_text() for file in sorted(_EXAMPLES.rglob("*.yaml"))]
    assert texts
    fuzzer = Fuzzer(Random(_SEED))
    read = refused = 0
    for number in range(_DOCUMENTS):
        text = fuzzer.document(fuzzer.random.choice(texts))
        try:
            for document in manifest.load(text, "fuzz.yaml"):
                document.message()
            read += 1
        except errors.PodwireError:
            refused += 1
        except BaseException:
            print(f"seed {_SEED}, document {number}: {text.encode('utf-8', 'surrogatepass').hex()}")
            raise
    # Damage that always shows, or never does, would test nothing.
    assert read > _DOCUMENTS / 50 and refused > _DOCUMENTS / 5
