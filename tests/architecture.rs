//! The rules of the house, checked on the source itself: floors, who may name what, sizes.
//!
//! A rule is a function from files to faults. Each is tried, in `tried`, on a small text that breaks it,
//! so that no rule passes because it looks at nothing.

#[path = "architecture/floors.rs"]
mod floors;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/source.rs"]
mod source;
#[path = "architecture/tried.rs"]
mod tried;

use source::File;

fn product() -> Vec<File> {
    let files = File::all(&["src"]);
    assert!(files.len() > 50, "the source was found");
    files
}

/// Everything in Rust, tests, benchmarks and fuzz targets included.
fn everything() -> Vec<File> {
    File::all(&["src", "tests", "bench", "fuzz", "examples"])
}

#[track_caller]
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_module_names_only_lower_floors() {
    none(&floors::downwards(&product()));
}

#[test]
fn the_map_in_lib_rs_is_the_one_that_is_checked() {
    none(&floors::map(&product()));
}

#[test]
fn names_have_their_places() {
    none(&rules::named_elsewhere(&product(), rules::PLACES));
}

#[test]
fn nothing_panics_on_purpose() {
    none(&rules::banned(&product()));
}

#[test]
fn an_exception_gives_its_reason() {
    none(&rules::exceptions(&everything()));
}

#[test]
fn a_conf_is_taken_apart_whole() {
    let files = product();
    none(&rules::rest_patterns(&files));
    none(&rules::unwired(&files));
}

#[test]
fn files_say_what_lives_in_them_and_stay_small() {
    let files = everything();
    none(&rules::headless(&files));
    none(&rules::long_files(&files, 500));
    none(&rules::vague_names(&files));
}

#[test]
fn functions_stay_small() {
    none(&rules::long_functions(&everything(), 60));
}

/// What CI runs is what the README says it runs, line by line; what it needs is explained there.
#[test]
fn the_readme_prints_every_line_of_make_test_and_explains_every_dependency() {
    let read = |name: &str| std::fs::read_to_string(name).expect("a file of the repository");
    let readme = read("README.md");
    none(&rules::unprinted(&read("Makefile"), &readme));
    none(&rules::unexplained(&read("Cargo.toml"), &readme));
}

/// What the README shows as measured is what was measured.
#[test]
fn the_figures_of_the_readme_are_those_that_are_kept() {
    let read = |name: &str| std::fs::read_to_string(name).expect("a file of the repository");
    let readme = read("README.md");
    assert!(readme.contains("<!-- figures: bench/results/"));
    none(&rules::unmeasured(&readme, read));
}
