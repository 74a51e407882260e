//! Every row of `docs/threat-model.md` leads an auditor to tests that exist and run.

use std::collections::BTreeSet;
use std::path::Path;

const HEADER: [&str; 6] = ["id", "tries", "defence", "where", "proof", "left"];

struct Row {
    id: String,
    places: Vec<String>,
    proofs: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What stands between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Rows of the tables whose header is [`HEADER`], and what is wrong with any.
fn read(text: &str) -> (Vec<Row>, Vec<String>) {
    let (mut rows, mut wrong, mut in_table) = (Vec::new(), Vec::new(), false);
    for line in text.lines() {
        let Some(line) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if cells[0] == HEADER[0] {
            in_table = true;
            // What an operator's slip is called.
            let same =
                cells.iter().zip(HEADER).all(|(cell, name)| *cell == name || (*cell, name) == ("happens", "tries"));
            if cells.len() != HEADER.len() || !same {
                wrong.push(format!("a table with other columns: {line}"));
            }
        } else if in_table && !cells.iter().all(|cell| cell.starts_with("---")) {
            if cells.len() != HEADER.len() || cells.contains(&"") {
                wrong.push(format!("not every column is filled: {line}"));
                continue;
            }
            rows.push(Row { id: cells[0].to_owned(), places: quoted(cells[3]), proofs: quoted(cells[4]) });
        }
    }
    (rows, wrong)
}

fn judge(text: &str) -> Vec<String> {
    let (rows, mut wrong) = read(text);
    let mut ids = BTreeSet::new();
    for Row { id, places, proofs } in &rows {
        if !ids.insert(id) {
            wrong.push(format!("{id} stands there twice"));
        }
        if proofs.is_empty() {
            wrong.push(format!("{id} names no test"));
        }
        wrong.extend(proofs.iter().filter_map(|proof| Some(format!("{id}: {proof} {}", why_no_proof(proof)?))));
        let is_missing = |place: &&String| place.contains('/') && !root().join(place).exists();
        wrong.extend(places.iter().filter(is_missing).map(|place| format!("{id}: {place} is not there")));
    }
    if rows.is_empty() {
        wrong.push("no row was found".to_owned());
    }
    wrong
}

/// What keeps `FILE::NAME` from being a test that runs.
fn why_no_proof(proof: &str) -> Option<&'static str> {
    let Some((file, name)) = proof.split_once("::") else { return Some("is not FILE::NAME") };
    let Ok(text) = std::fs::read_to_string(root().join(file)) else { return Some("names no file") };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    if file.ends_with(".py") {
        let is_there = lines.iter().any(|line| line.starts_with(&format!("def {name}(")));
        return (!is_there || !name.starts_with("test_")).then_some("is no test of that file");
    }
    // A table of tests, which a macro makes functions of.
    if text.contains("$(#[test] fn $name()") && lines.iter().any(|line| line.starts_with(&format!("{name}:"))) {
        return None;
    }
    let Some(place) =
        lines.iter().position(|line| line.strip_prefix("async ").unwrap_or(line).starts_with(&format!("fn {name}(")))
    else {
        return Some("is no function of that file");
    };
    let above: Vec<&str> = lines[..place]
        .iter()
        .rev()
        .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
        .copied()
        .collect();
    if above.iter().any(|line| line.starts_with("#[ignore") || line.starts_with("#[cfg")) {
        return Some("is ignored");
    }
    let is_test = above.iter().any(|line| *line == "#[test]" || line.starts_with("#[tokio::test"));
    (!is_test).then_some("is no test")
}

#[test]
fn every_row_of_the_threat_model_names_tests_that_exist_and_run() {
    let text = std::fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    assert_eq!(judge(&text), Vec::<String>::new());
    let (rows, _) = read(&text);
    for actor in ["L", "W", "P", "T", "F", "O", "C", "X"] {
        assert!(rows.iter().any(|row| row.id.starts_with(actor)), "no row begins with {actor}");
    }
}

#[test]
fn the_checker_finds_rows_that_prove_nothing() {
    const GOOD: &str = "tests/threat_model.rs::the_checker_finds_rows_that_prove_nothing";
    let table = |rows: &str| {
        judge(&format!("| id | tries | defence | where | proof | left |\n|---|---|---|---|---|---|\n{rows}"))
    };
    let row = |proof: &str| table(&format!("| A1 | a | b | c | {proof} | – |\n"));
    assert_eq!(row(&format!("`{GOOD}`")), Vec::<String>::new());
    for (proof, why) in [
        ("none", "names no test"),
        ("`the_checker_finds_rows_that_prove_nothing`", "is not FILE::NAME"),
        ("`tests/nowhere.rs::x`", "names no file"),
        ("`tests/threat_model.rs::nothing`", "is no function"),
        ("`tests/threat_model.rs::judge`", "is no test"),
        ("`tests/tools/test_check_dependencies.py::test_nothing`", "is no test"),
        ("`tests/proxies/known_attacks.rs::nothing`", "is no function"),
    ] {
        let wrong = row(proof);
        assert!(wrong.len() == 1 && wrong[0].contains(why), "{proof}: {wrong:?}");
    }
    let doubled = format!("| A1 | a | b | c | `{GOOD}` | – |\n").repeat(2);
    assert_eq!(table(&doubled), ["A1 stands there twice"]);
    assert!(table(&format!("| A1 | a | b | c | `{GOOD}` | |\n"))[0].contains("not every column"));
    assert_eq!(
        table(&format!("| A1 | a | b | `src/nowhere.rs` | `{GOOD}` | – |\n")),
        ["A1: src/nowhere.rs is not there"]
    );
    assert_eq!(table(""), ["no row was found"]);
}

#[test]
fn our_own_code_is_safe_rust() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for manifest in ["Cargo.toml", "proto/Cargo.toml"] {
        assert!(read(manifest).contains("[lints]\nworkspace = true"), "{manifest} takes the workspace's lints");
    }
    assert!(
        !root().join("build.rs").exists() && !root().join("proto/build.rs").exists(),
        "nothing of ours runs at a build"
    );
}
