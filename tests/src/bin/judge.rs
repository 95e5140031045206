//! `judge [--format text|json] HISTORY…`: judges the histories that clients wrote (`fault-bed --keep`), each by itself, as
//! Jepsen's Kafka workload does.
//!
//! Exit codes: 0 all are right, 1 something is wrong, 2 wrong arguments, 65 a history is damaged, cut off, or cannot be judged.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use varve_tests::judge::{Verdict, file, judge};

const USAGE: &str = "judge [--format text|json] HISTORY…";
/// What is given is no history that could be judged (EX_DATAERR).
const REFUSED: u8 = 65;

fn main() -> ExitCode {
    let mut is_json = false;
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--format" => match arguments.next().as_deref() {
                Some("json") => is_json = true,
                Some("text") => is_json = false,
                _ => return usage(),
            },
            "--help" | "-h" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            option if option.starts_with('-') => return usage(),
            path => paths.push(path.into()),
        }
    }
    if paths.is_empty() {
        return usage();
    }
    let (mut is_right, mut is_judged) = (true, true);
    for path in &paths {
        let verdict = judge_file(path);
        is_right &= verdict.as_ref().map_or(true, Verdict::is_right);
        is_judged &= verdict.is_ok();
        tell(path, &verdict, is_json);
    }
    match (is_judged, is_right) {
        (false, _) => ExitCode::from(REFUSED),
        (true, false) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn judge_file(path: &Path) -> Result<Verdict, String> {
    let recorded = file::read(path).map_err(|error| error.to_string())?;
    judge(&recorded.lines).map_err(|error| error.to_string())
}

fn tell(path: &Path, verdict: &Result<Verdict, String>, is_json: bool) {
    let shown = path.display();
    match (verdict, is_json) {
        (Ok(verdict), false) => println!("{shown}:\n{verdict}"),
        (Err(refusal), false) => println!("{shown}: REFUSED: {refusal}"),
        (Ok(verdict), true) => {
            let right = verdict.is_right();
            println!("{}", json!({ "history": path, "right": right, "verdict": verdict }));
        }
        (Err(refusal), true) => println!("{}", json!({ "history": path, "refused": refusal })),
    }
}
