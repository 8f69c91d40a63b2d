"""The numbers that an edit starts from: noise, solver matrices and token ids are Python's."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from alterbute.bundle import open_bundle
from alterbute.denoise.noise import draw_noise
from alterbute.encode.prompt import PromptTokenizer, vocabulary_warning
from alterbute.errors import InputError
from alterbute.solver import Trajectory, compile_trajectory

from tests.cpp.conftest import SOLVER_TABLE
from tests.cpp.driver import Driver, Refused

WORDS = (
    "color: red",
    "material: metal",
    "mug",
    "Café",
    "naïve",
    "STRASSE",
    "ﬁligree",
    "İstanbul",
    "ΣΊΣΥΦΟΣ",
    "don't",
    "we'LL",
    "12½",
    "²³",
)
SCRIPTS = (
    "色: 赤",
    "红色的杯子",
    "빨간 머그",
    "красный",
    "أحمر",
    "สีแดง",
    "लाल रंग",
    "κόκκινο",
    "אדום",
    "𝒻𝒶𝓃𝒸𝓎",
    "①②③",
    "ⅷ Ⅻ",
)
EMOJI = ("😀", "👩‍🚀", "🏳️‍🌈", "🇫🇷", "✊🏿", "❤️", "☕", "👨‍👩‍👧‍👦")
CONTROLS = (
    "\x00",
    "\x07",
    "\x1b[31m",
    "\u200b",
    "\u200d",
    "\ufeff",
    "\u2028",
    "\x85",
    "\xa0",
    "\u3000",
    "\x1c",
    "\u180e",
)
ODD = (*CONTROLS, "<|endoftext|>", "<|startoftext|>", "<|")
FORMS: tuple[Literal["NFC", "NFD", "NFKC", "NFKD"], ...] = ("NFD", "NFKD", "NFC")


def make_prompts() -> list[str]:
    """Over 5,000 prompts: real ones, every script, what keyboards and attackers type, and random characters."""
    draw = random.Random(7)
    parts = WORDS + SCRIPTS + EMOJI + ODD

    def some(count: int, make: Callable[[], str]) -> list[str]:
        return [make() for _ in range(count)]

    def any_point() -> str:
        return chr(draw.choice((draw.randrange(0x250), draw.randrange(0xD800), draw.randrange(0x10000, 0x110000))))

    def mark() -> str:
        return chr(draw.choice((draw.randrange(0x300, 0x370), draw.randrange(0x1160, 0x1200), 0x345, 0x1E8D0)))

    prompts = ["", " ", "  \t\n", *parts]
    prompts += some(1200, lambda: draw.choice(WORDS) + draw.choice((" ", "; ", ", ", "", "  ")) + draw.choice(parts))
    prompts += some(
        1500, lambda: "".join(draw.choice((*parts, " ", "'s", "!?", "...")) for _ in range(draw.randrange(1, 12)))
    )
    prompts += some(
        500,
        lambda: unicodedata.normalize(draw.choice(FORMS), draw.choice(WORDS + SCRIPTS) + draw.choice(WORDS + SCRIPTS)),
    )
    prompts += some(1500, lambda: "".join(any_point() for _ in range(draw.randrange(1, 20))))
    # A base letter under a heap of marks in random order: normal form C has to sort and join them.
    prompts += some(500, lambda: draw.choice("aeoıκᾳ가ᄀ") + "".join(mark() for _ in range(6)))
    prompts += ["red " * count for count in (8, 15, 29, 30, 31, 60, 1000)]
    return [*prompts, "é" * 2048, "x" * 4096, "x" * 4097, "\u0301" * 2000, "漢" * 1365]


def python_ids(tokenizer: PromptTokenizer, prompt: str) -> list[int] | str:
    try:
        return [int(token) for token in tokenizer.encode([prompt])[0]]
    except InputError as fault:
        return str(fault)


def open_tokenizer(driver: Driver, data: bytes, window: dict[str, int]) -> PromptTokenizer:
    driver.ask("tokenizer", [data], **window)
    return PromptTokenizer.from_bytes(data, **window)


def compare_ids(driver: Driver, tokenizer: PromptTokenizer, prompts: list[str]) -> None:
    told, _ = driver.ask("tokens", [prompt.encode() for prompt in prompts], count=len(prompts))
    wrong = [
        (prompt, ours, theirs)
        for prompt, ours, theirs in zip(
            prompts, (python_ids(tokenizer, prompt) for prompt in prompts), told["ids"], strict=True
        )
        if ours != theirs
    ]
    assert not wrong, f"{len(wrong)} of {len(prompts)}, such as {wrong[:3]!r}"


def test_token_ids_are_pythons_on_five_thousand_prompts(driver: Driver, demo: Path) -> None:
    bundle = open_bundle(demo)
    text = bundle.manifest.text
    # A wide window, so that long prompts are compared by their ids rather than by their refusal.
    window = {"tokens": 3000, "start_id": text.start_id, "end_id": text.end_id, "pad_id": text.pad_id}
    tokenizer = open_tokenizer(driver, bundle.read(text.tokenizer), window)
    prompts = make_prompts()
    assert len(prompts) > 5000
    compare_ids(driver, tokenizer, prompts)


def test_every_character_gives_pythons_token_ids(driver: Driver, demo: Path) -> None:
    bundle = open_bundle(demo)
    text = bundle.manifest.text
    window = {"tokens": 3000, "start_id": text.start_id, "end_id": text.end_id, "pad_id": text.pad_id}
    tokenizer = open_tokenizer(driver, bundle.read(text.tokenizer), window)
    # Each on its own between letters: what is joined to what shows its class, and what it becomes.
    points = [point for point in range(0x3400) if not 0xD800 <= point < 0xE000]
    points += [
        *range(0xA000, 0xD7B0, 5),
        *range(0xF900, 0x10000),
        *range(0x10000, 0x17000, 3),
        *range(0x1D000, 0x1F000),
        *range(0x2F800, 0x2FA20),
    ]
    compare_ids(
        driver,
        tokenizer,
        [" ".join(f"a{chr(point)}b" for point in points[start : start + 100]) for start in range(0, len(points), 100)],
    )


def test_a_prompt_that_does_not_fit_is_refused_in_pythons_words(driver: Driver, demo: Path) -> None:
    bundle = open_bundle(demo)
    text = bundle.manifest.text
    window = {"tokens": text.tokens, "start_id": text.start_id, "end_id": text.end_id, "pad_id": text.pad_id}
    tokenizer = open_tokenizer(driver, bundle.read(text.tokenizer), window)
    compare_ids(driver, tokenizer, ["red " * count for count in range(25, 40)] + ["x" * 4097, "é" * 2049])
    told, _ = driver.ask("tokens", [b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80"], count=3)
    assert all(isinstance(ids, str) and "UTF-8" in ids for ids in told["ids"])


def test_added_words_are_found_as_python_finds_them(driver: Driver, demo: Path) -> None:
    from tokenizers import AddedToken, Tokenizer

    bundle = open_bundle(demo)
    text = bundle.manifest.text
    library = Tokenizer.from_buffer(bundle.read(text.tokenizer))
    library.add_tokens(
        [
            AddedToken("<cat-toy>", normalized=True),
            AddedToken("<Cat>", normalized=False),
            AddedToken("<cat", normalized=True),
        ]
    )
    window = {"tokens": 200, "start_id": text.start_id, "end_id": text.end_id, "pad_id": text.pad_id}
    tokenizer = open_tokenizer(driver, library.to_str().encode(), window)
    compare_ids(
        driver,
        tokenizer,
        ["a <cat-toy> b", "<cat-toy", "x<CAT-TOY>y<Cat>z", "<cat>", "<Cat", "<<cat-toy>>", "color: <cat-toy>;<Cat>"],
    )


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("normalizer",), None),
        (("normalizer", "normalizers", 0, "type"), "NFD"),
        (("pre_tokenizer", "pretokenizers", 0, "pattern", "Regex"), r"\w+"),
        (("model", "type"), "WordPiece"),
        (("model", "dropout"), 0.1),
        (("model", "merges", 0), ["q", "zz"]),
        (("model", "vocab", "!"), -1),
    ],
    ids=str,
)
def test_a_tokenizer_of_another_kind_is_refused_rather_than_misread(
    driver: Driver, demo: Path, place: tuple[Any, ...], value: object
) -> None:
    import json

    bundle = open_bundle(demo)
    document: Any = json.loads(bundle.read(bundle.manifest.text.tokenizer))
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(Refused, match="the bundle's tokenizer cannot be used"):
        driver.ask("tokenizer", [json.dumps(document).encode()], tokens=32, start_id=0, end_id=1, pad_id=1)


def test_warnings_for_unknown_words_are_pythons(driver: Driver, demo: Path) -> None:
    manifest = open_bundle(demo).manifest
    prompts = [
        "color: red",
        "color: mauve",
        "it RED",
        "Größe: XXL; color: Σοφός",
        "it's; ;a:b:c",
        "a\tb",
        "x\x00y: 'q'\"",
        "\u0130: \x1cred\x1d",
    ]
    prompts += make_prompts()[:1500]
    told, _ = driver.ask(
        "warnings",
        [(demo / "manifest.json").read_bytes(), *(prompt.encode() for prompt in prompts)],
        count=len(prompts),
    )
    wrong = [
        (prompt, ours, theirs)
        for prompt, theirs in zip(prompts, told["lines"], strict=True)
        if (ours := vocabulary_warning(prompt, manifest.attributes) or "") != theirs
    ]
    assert not wrong, wrong[:3]


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 - 1, 2**32, 2**63 - 1])
def test_noise_bytes_are_pythons(driver: Driver, seed: int) -> None:
    for image, step, size in [
        (0, 0, 4096),
        (1, 0, 4096),
        (0, 1, 4097),
        (63, 50, 16384),
        (2**32 - 1, 1000, 1),
        (5, 3, 200_000),
    ]:
        assert np.array_equal(driver.noise(seed, image, step, size), draw_noise(seed, image, step, (size,)))


def ask_steps(driver: Driver, table: Path, solver: str, steps: int, strength: float = 1.0) -> Trajectory:
    _, (timestep, matrix, level, start) = driver.ask(
        "solver", [table.read_bytes()], table=str(table), solver=solver, steps=steps, strength=strength
    )
    return Trajectory(
        timestep=np.frombuffer(timestep, np.float32),
        matrix=np.frombuffer(matrix, np.float32).reshape(-1, 4, 6).astype(np.float64),
        level=np.frombuffer(level, np.float32).reshape(-1, 2).astype(np.float64),
        start=np.frombuffer(start, np.float32).astype(np.float64),
    )


def assert_equal_steps(ours: Trajectory, theirs: Trajectory) -> None:
    for name in ("timestep", "matrix", "level", "start"):
        assert np.array_equal(getattr(ours, name).astype(np.float32), getattr(theirs, name).astype(np.float32)), name


def test_solver_matrices_are_pythons_for_every_solver_and_step_count(driver: Driver, demo: Path) -> None:
    manifest = open_bundle(demo).manifest
    told, _ = driver.ask("open", path=str(demo))
    assert "dpmpp_2m" in told["solvers"]
    for solver in told["solvers"]:
        for steps in range(1, 51):
            try:
                ours = compile_trajectory(manifest.scheduler, solver, steps, spacing=manifest.defaults.spacing)
            except InputError as fault:
                with pytest.raises(Refused, match="steps is") as refused:
                    ask_steps(driver, demo / SOLVER_TABLE, solver, steps)
                assert refused.value.code == fault.code
                continue
            assert_equal_steps(ours, ask_steps(driver, demo / SOLVER_TABLE, solver, steps))


@pytest.mark.parametrize("solver", ["ddim", "euler", "euler_a", "lcm"])
def test_solvers_without_memory_start_within_their_trajectory_as_in_python(
    driver: Driver, demo: Path, solver: str
) -> None:
    manifest = open_bundle(demo).manifest
    for steps in (1, 4, 7, 20, 50):
        for strength in (0.2, 0.5, 0.75, 0.99):
            try:
                ours = compile_trajectory(
                    manifest.scheduler, solver, steps, spacing=manifest.defaults.spacing, strength=strength
                )
            except InputError as fault:
                with pytest.raises(Refused) as refused:
                    ask_steps(driver, demo / SOLVER_TABLE, solver, steps, strength)
                assert str(refused.value) == str(fault)
                continue
            assert_equal_steps(ours, ask_steps(driver, demo / SOLVER_TABLE, solver, steps, strength))


def test_a_strength_that_the_table_cannot_give_is_refused(driver: Driver, demo: Path) -> None:
    with pytest.raises(Refused, match=r"strength is 0\.5 with dpmpp_2m"):
        ask_steps(driver, demo / SOLVER_TABLE, "dpmpp_2m", 20, 0.5)


def test_an_unknown_solver_is_refused_in_pythons_words(driver: Driver, demo: Path) -> None:
    from alterbute.solver.solver_table import read_table

    with pytest.raises(InputError) as ours:
        read_table((demo / SOLVER_TABLE).read_bytes()).compile_trajectory("magic", 5)
    with pytest.raises(Refused) as theirs:
        ask_steps(driver, demo / SOLVER_TABLE, "magic", 5)
    assert str(theirs.value) == str(ours.value)
