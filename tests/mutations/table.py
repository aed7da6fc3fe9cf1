"""Small wrong changes to the code, each with a test that must notice it.

What crosses: a table of exact texts in, per file of the package; nothing is run here. Chosen by hand where a slip would
give other numbers without an error: the tile grid, pixels, prompts, scoring rules, the conversion. A change that alters
no result is not in the table (`>` for `>=` in `choose_grid`: a grid of exactly the limit shrinks to itself).
"""

from __future__ import annotations

from dataclasses import dataclass

MODEL, SCORING, BENCHMARKS = "tests/model", "tests/evaluation/scoring", "tests/evaluation/benchmarks"
TILING, PIXELS, PROCESSING = (
    f"{MODEL}/test_tiling.py",
    f"{MODEL}/test_image_processing.py",
    f"{MODEL}/test_processing.py",
)
GRIDS = f"{TILING}::test_release_grids_equal_the_recordings"
HASHES = f"{PIXELS}::test_pixels_equal_the_recordings_by_hash"
MODES = f"{PIXELS}::test_every_mode_becomes_the_rgb_a_person_sees"
IDS = f"{PROCESSING}::test_prompt_and_ids_equal_the_recordings"
PARTS = "tests/inference/test_conversation.py::test_parts_end_at_images_and_at_turns"
VQA = f"{SCORING}/test_vqa_accuracy.py"
OPTIONS = f"{SCORING}/test_options.py"
SHORT = f"{SCORING}/test_short_rules.py"
CONVERSION = "tests/weights/test_conversion.py"
EDGES = "tests/weights/test_conversion_parts.py"


@dataclass(frozen=True)
class Mutation:
    """`text` stands once in `file`; with `instead` in its place, `test` must fail."""

    file: str
    text: str
    instead: str
    test: str

    @property
    def name(self) -> str:
        return f"{self.file.rpartition('/')[2]}: {self.text} -> {self.instead}"


# file of xverse_v/ -> (text, what stands instead, the test that must fail)
_TABLE = {
    "model/tiling.py": [
        ("MAX_TILES = 9", "MAX_TILES = 8", GRIDS),
        ("TILE_SIZE = 224", "TILE_SIZE = 223", f"{TILING}::test_exactly_half_a_tile_rounds_down"),
        ("2 * length + tile_size - 1", "2 * length + tile_size", f"{TILING}::test_exactly_half_a_tile_rounds_down"),
        ("max(1, (2", "max(0, (2", f"{TILING}::test_exactly_half_a_tile_rounds_down"),
        ("down, isqrt(max_tiles))", "down, isqrt(max_tiles) + 1)", GRIDS),
        ("max_tiles // short", "max_tiles // short - 1", GRIDS),
        ("if across > down else", "if across < down else", GRIDS),
        ("== 1 else self.tiles + 1", "== 1 else self.tiles", GRIDS),
        ('== "release" else Grid', '!= "release" else Grid', f"{TILING}::test_release_rows_come_from_the_width"),
        (
            "left=width * column / grid.columns",
            "left=width * column / grid.rows",
            f"{TILING}::test_tiles_cover_the_image_once",
        ),
        ("scale_x, scale_y = grid", "scale_y, scale_x = grid", f"{TILING}::test_aspect_error_of_the_transposed_grid"),
    ],
    "model/image_processing.py": [
        ("0.48145466", "0.48146", HASHES),
        ("0.27577711)", "0.2757)", HASHES),
        ("np.float32(255)", "np.float32(256)", f"{PIXELS}::test_look_up_equals_the_three_float32_steps"),
        ("bicubic = Image.Resampling.BICUBIC", "bicubic = Image.Resampling.BILINEAR", HASHES),
        ("(size[0], image.height)", "(image.width, size[1])", HASHES),
        ("left, top = column", "top, left = column", HASHES),
        (
            'orientation: Orientation = "upright"',
            'orientation: Orientation = "release"',
            f"{PIXELS}::test_a_new_processor_is_upright_and_turns_by_exif",
        ),
        ("apply_exif = True", "apply_exif = False", f"{PIXELS}::test_a_new_processor_is_upright_and_turns_by_exif"),
        ("if apply_exif:", "if not apply_exif:", f"{PIXELS}::test_exif_turns_only_when_asked"),
        ("/ 257 + 0.5", "/ 257", MODES),
        ("background = (255, 255, 255)", "background = (0, 0, 0)", MODES),
    ],
    "model/processing.py": [
        ("patches_per_view: int = 256", "patches_per_view: int = 255", IDS),
        ("[image_idx]) * self", "[image_idx] - 1) * self", IDS),
    ],
    "model/prompt.py": [
        ("{{ 'Human: ' }}", "{{ 'Human:' }}", IDS),
        (r"'@IMAGE@\\n'", r"'@IMAGE@'", IDS),
        ("(message['content']) + '@END@'", "(message['content'])", IDS),
        ("-%}{{ 'Assistant: ' }}", "-%}{{ 'Assistant:' }}", IDS),
        ("一旦给定你", "一旦给你", f"{PROCESSING}::test_the_release_system_text_is_the_recorded_one"),
        (
            '_NONCHARACTER + "1"',
            '_NONCHARACTER + "2"',
            f"{PROCESSING}::test_special_strings_that_are_typed_are_plain_text",
        ),
        (
            '_NONCHARACTER + "0"',
            '_NONCHARACTER + "3"',
            f"{PROCESSING}::test_special_strings_that_are_typed_are_plain_text",
        ),
    ],
    "inference/prompt.py": [
        ("places[seen - 1] + 1", "places[seen - 1]", PARTS),
        ("if len(users) > 1", "if len(users) > 2", PARTS),
        (
            "grid.views * patches_per_view\n            token_ids",
            "grid.tiles * patches_per_view\n            token_ids",
            "tests/inference/test_golden_answers.py::test_evaluation_answers",
        ),
        ("facts, rgb.tobytes()", 'facts, b""', "tests/inference/test_reuse.py::test_an_overwritten_file_is_read_again"),
        (
            "not 1 <= max_tiles",
            "not 0 <= max_tiles",
            "tests/inference/test_assistant.py::test_wrong_questions_are_refused",
        ),
    ],
    "evaluation/scoring/vqa.py": [
        ("(agree - 1) / 3", "agree / 3", f"{VQA}::test_soft_accuracy_of_ten_annotators"),
        ("_PERIODS_REMOVED = 32", "_PERIODS_REMOVED = 31", f"{VQA}::test_punctuation"),
        (r"(?<!\d)\.(?!\d)", r"\.(?!\d)", f"{VQA}::test_punctuation"),
        (
            "len(set(answers)) == 1",
            "len(set(answers)) == 0",
            f"{VQA}::test_the_official_evaluation_normalises_only_where_annotators_disagree",
        ),
        ('{"a", "an", "the"}', '{"a", "the"}', f"{VQA}::test_digits_articles_and_contractions"),
    ],
    "evaluation/scoring/options.py": [
        ("_LAST_TOKENS = 5", "_LAST_TOKENS = 4", f"{OPTIONS}::test_the_first_place_of_a_letter_counts"),
        ("> 2 * sum(", "> 3 * sum(", f"{OPTIONS}::test_a_text_is_looked_for_up_to_twice_the_length_of_all_options"),
        ("[ABCD]", "[ABCDE]", f"{OPTIONS}::test_answer_is_takes_the_next_letter_before_any_text_is_matched"),
    ],
    "evaluation/scoring/harness.py": [
        (
            '("vlmevalkit-2024-04", "release")',
            '("vlmevalkit-2024-04",)',
            f"{OPTIONS}::test_the_release_follows_april_and_the_authors_profile_follows_today",
        ),
    ],
    "evaluation/scoring/choice.py": [
        ("and letter != gold", "and letter == gold", f"{SCORING}/test_choice_rules.py::test_a_circular_question"),
        ("SEED = 2680", "SEED = 2681", f"{SCORING}/test_choice_rules.py::test_a_drawn_letter_stays_what_it_was"),
        (
            "ROTATION = 1_000_000",
            "ROTATION = 100_000",
            f"{BENCHMARKS}/test_mmbench.py::test_a_group_is_the_index_modulo_a_million",
        ),
    ],
    "evaluation/scoring/yes_no.py": [
        ('("yes" in words) == (', '("yes" in words) and (', f"{SHORT}::test_neither"),
        (
            "figures.get(row.figure, True) and",
            "figures.get(row.figure, True) or",
            f"{SHORT}::test_subcategories_of_one_name_share_their_groups_whatever_the_category",
        ),
    ],
    "evaluation/scoring/gqa.py": [
        ("label in prediction", "label == prediction", f"{SHORT}::test_the_release_looks_for_the_label_anywhere"),
        (
            '.strip().rstrip(".").lower()',
            ".strip().lower()",
            f"{SHORT}::test_the_exact_rules_differ_in_a_final_period_and_in_the_labels_case",
        ),
    ],
    "evaluation/scoring/ocrbench.py": [
        ("if category == FORMULAS", "if category != FORMULAS", f"{SHORT}::test_ocrbench_points"),
        ("RECOGNITION: 300", "RECOGNITION: 200", f"{SHORT}::test_ocrbench_has_a_thousand_questions_in_five_groups"),
    ],
    "evaluation/scoring/llavabench.py": [
        ("if len(pieces) != 2", "if len(pieces) < 2", f"{SHORT}::test_grades_of_a_reply"),
    ],
    "evaluation/scoring/mmmu.py": [
        ("response.split()) <= 5", "response.split()) <= 6", f"{SCORING}/test_mmmu_rules.py::test_letters"),
        ('.replace(",", "")), 2)', '.replace(",", "")), 1)', f"{SCORING}/test_mmmu_rules.py::test_open_answers"),
    ],
    "evaluation/scoring/mathvista.py": [
        (
            "question.places",
            "question.places + 1",
            f"{SCORING}/test_mathvista_rules.py::test_the_authors_normalise_and_never_abstain_in_multiple_choice",
        ),
        (
            "Model respone:",
            "Model response:",
            f"{SCORING}/test_mathvista_rules.py::test_the_judges_prompt_keeps_its_misspelling_and_its_missing_line_end",
        ),
    ],
    "evaluation/scoring/intervals.py": [
        (
            "Z = 1.959963984540054",
            "Z = 1.6448536269514722",
            f"{SCORING}/test_intervals.py::test_wilson_against_worked_values",
        ),
        (
            "[0.025, 0.975]",
            "[0.05, 0.95]",
            f"{SCORING}/test_intervals.py::test_the_bootstrap_repeats_itself_and_narrows_with_more_groups",
        ),
    ],
    "evaluation/benchmarks/prompts.py": [
        (
            "\nLONGEST_ANSWER = 512",
            "\nLONGEST_ANSWER = 511",
            f"{BENCHMARKS}/test_prompts_to_the_byte.py::test_multiple_choice",
        ),
        (
            "single word or phrase.",
            "single word or phrase",
            f"{BENCHMARKS}/test_prompts_to_the_byte.py::test_short_answers",
        ),
        (r"options above. \n", r"options above.\n", f"{BENCHMARKS}/test_prompts_to_the_byte.py::test_multiple_choice"),
    ],
    "evaluation/benchmarks/hallusionbench.py": [
        (
            "sum(shares) / 3",
            "max(shares)",
            f"{BENCHMARKS}/test_hallusionbench.py::test_one_wrong_of_two_figures_by_two_questions",
        ),
    ],
    "weights/lora.py": [
        (
            "self.alpha / self.rank",
            "self.rank / self.alpha",
            f"{CONVERSION}::test_the_tensors_are_those_put_together_by_hand",
        ),
        ("float(2 * rank if", "float(rank if", f"{CONVERSION}::test_alpha_is_twice_the_rank_unless_given"),
    ],
    "weights/layout.py": [
        ("== stored_layers:", "== stored_layers - 1:", f"{CONVERSION}::test_every_key_is_accounted_for"),
        (
            "return BUFFER\n    if name == HEAD",
            "return None\n    if name == HEAD",
            f"{CONVERSION}::test_every_key_is_accounted_for",
        ),
        (
            '"llama_proj.0.bias": f"{PROJECTOR}.linear_1.bias"',
            '"llama_proj.0.bias": f"{PROJECTOR}.linear_2.bias"',
            f"{CONVERSION}::test_every_key_is_accounted_for",
        ),
    ],
    "weights/convert.py": [
        (
            'grid: Orientation = "release"',
            'grid: Orientation = "upright"',
            f"{CONVERSION}::test_settings_of_the_folder",
        ),
        (
            "name == LAYER_NORM[0]",
            "name == LAYER_NORM[1]",
            f"{EDGES}::test_without_ln_vision_the_norm_is_at_its_initial_values",
        ),
        (
            "if not worst <= parity.TOLERANCE",
            "if worst < 0",
            f"{CONVERSION}::test_a_kept_layer_too_many_is_caught_by_the_logits_alone",
        ),
    ],
    "weights/settings.py": [
        ('"repetition_penalty": 1.05', '"repetition_penalty": 1.0', f"{CONVERSION}::test_settings_of_the_folder"),
        ('"max_new_tokens": 16', '"max_new_tokens": 512', f"{CONVERSION}::test_settings_of_the_folder"),
    ],
}

MUTATIONS = [Mutation(f"xverse_v/{file}", *entry) for file, entries in _TABLE.items() for entry in entries]
