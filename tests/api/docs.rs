//! `docs/faults.md` and `SECURITY.md` name tests: each of them exists.

use std::fs;
use std::path::{Path, PathBuf};

const FAULTS: &str = include_str!("../../docs/faults.md");
const SECURITY: &str = include_str!("../../SECURITY.md");

/// Every row that has to be there, in this order.
const ROWS: [(char, &[u8]); 5] = [
    ('V', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
    ('P', &[1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21]),
    ('O', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17]),
    ('C', &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25, 26, 27]),
    ('L', &[1, 2, 3, 4, 5]),
];

/// The cells of every row, from its name to its tests.
fn rows() -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
    let is_row = |cells: &Vec<&str>| {
        let (letter, number) = cells[0].split_at_checked(1).unwrap_or_default();
        cells.len() > 2 && "VPOCL".contains(letter) && number.parse::<u8>().is_ok()
    };
    FAULTS.lines().filter(|line| line.starts_with('|')).map(cells).filter(is_row).collect()
}

/// What stands between backticks and is the path of a test.
fn tests_of(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).filter(|code| code.contains("::") && !code.contains(' ')).collect()
}

fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
}

/// Whether a file that the modules lead to has such a function.
fn exists(test: &str, sources: &[(PathBuf, String)]) -> bool {
    let (modules, name) = test.rsplit_once("::").unwrap();
    // The store's suite runs once on each database.
    let modules: Vec<_> =
        modules.split("::").filter(|module| !["sqlite", "postgres"].contains(module)).collect();
    let function = format!("fn {name}(");
    sources.iter().any(|(path, text)| {
        let path = path.with_extension("");
        let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_str().unwrap()).collect();
        // A `tests` module may stand in the file of what it tests.
        let leads = modules.iter().all(|module| *module == "tests" || parts.contains(module));
        leads && text.contains(&function)
    })
}

#[test]
fn every_fault_has_its_row_and_every_row_a_test_that_exists() {
    let expected =
        ROWS.iter().flat_map(|(letter, numbers)| numbers.iter().map(move |n| format!("{letter}{n}")));
    let rows = rows();
    let names: Vec<_> = rows.iter().map(|cells| cells[0].to_owned()).collect();
    assert_eq!(names, expected.collect::<Vec<_>>());
    let (mut files, root) = (Vec::new(), Path::new(env!("CARGO_MANIFEST_DIR")));
    for folder in ["src", "tests/api"] {
        sources(&root.join(folder), &mut files);
    }
    for cells in &rows {
        let tests = tests_of(cells.last().unwrap());
        assert!(!tests.is_empty(), "{} has no test", cells[0]);
        for test in tests {
            assert!(exists(test, &files), "{}: {test} does not exist", cells[0]);
        }
    }
    let promised = tests_of(SECURITY);
    assert!(!promised.is_empty(), "SECURITY.md names no test");
    for test in promised {
        assert!(exists(test, &files), "SECURITY.md: {test} does not exist");
    }
    assert!(!exists("docs::no_such_test", &files), "the check can fail");
}
