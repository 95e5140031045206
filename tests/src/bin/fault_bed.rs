//! `fault-bed [--short] [--rounds 66] [--minutes 60] [--faults kill,pause,…] [--brokers 3|5] [--rounds-of-life 11] [--rate 50]
//! [--seed N] [--folder DIR] [--log FILE] [--keep] [--without-librdkafka]`: real brokers in network namespaces, clients that write
//! down what they do and see, a fault in each round, and the judge after it. Prints a line a round and a table by fault.
//!
//! `--log` appends each round as a line of JSON; `fault-bed --table FILE` prints the table of such a file; `--list` the faults.
//! `--short` is one round of each of six faults, in about a minute.
//!
//! Exit codes: 0 all right, 1 something is wrong, 2 wrong arguments, 77 this machine cannot do it, 101 the bed failed, 130 Ctrl-C.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use varve_tests::bed::{Fault, Plan, Round, enclosure, run, table};
use varve_tests::clients::ClientKind;

const USAGE: &str = "fault-bed [--short] [--rounds 66] [--minutes 60] [--faults kill,pause,…] [--brokers 3|5] \
    [--rounds-of-life 11] [--rate 50] [--seed N] [--folder DIR] [--log FILE] [--keep] [--without-librdkafka] \
    | --list | --table FILE";
/// What `automake` and the suites of this repository mean by "skipped".
const SKIPPED: u8 = 77;

struct Options {
    plan: Plan,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    with_librdkafka: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            Fault::ALL.iter().for_each(|fault| println!("{}", fault.name()));
            return ExitCode::SUCCESS;
        }
        ["--table", path] => return print_table(Path::new(path)),
        _ => {}
    }
    let Some(options) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if enclosure::is_inside() {
        return work(options);
    }
    if let Err(missing) = enclosure::probe() {
        println!("SKIPPED fault-bed: {missing}");
        return ExitCode::from(SKIPPED);
    }
    if options.with_librdkafka
        && let Err(missing) = ClientKind::Librdkafka.prepare()
    {
        println!("SKIPPED librdkafka: {missing}");
    }
    let error = enclosure::enter();
    eprintln!("the enclosure cannot be entered: {error}");
    ExitCode::FAILURE
}

fn parse(arguments: &[String]) -> Option<Options> {
    let plan = Plan {
        rounds: 66,
        time: Duration::from_secs(3_600),
        faults: Fault::ALL.to_vec(),
        brokers: 3,
        rounds_of_life: 11,
        rate: 50,
        seed: rand::random(),
        folder: PathBuf::new(),
        python: None,
        keep: false,
    };
    let mut options = Options { plan, folder: None, log: None, with_librdkafka: true };
    let plan = &mut options.plan;
    let mut arguments = arguments.iter();
    while let Some(name) = arguments.next() {
        match name.as_str() {
            "--short" => {
                (plan.faults, plan.rounds) = (Fault::SHORT.to_vec(), Fault::SHORT.len() as u32);
            }
            "--keep" => plan.keep = true,
            "--without-librdkafka" => options.with_librdkafka = false,
            _ => {
                let value = arguments.next()?;
                match name.as_str() {
                    "--rounds" => plan.rounds = value.parse().ok()?,
                    "--minutes" => plan.time = Duration::from_secs(60 * value.parse::<u64>().ok()?),
                    "--faults" => {
                        plan.faults = value.split(',').map(Fault::parse).collect::<Option<_>>()?;
                    }
                    "--brokers" => {
                        plan.brokers = value.parse().ok().filter(|count| [3, 5].contains(count))?;
                    }
                    "--rounds-of-life" => plan.rounds_of_life = value.parse().ok()?,
                    "--rate" => plan.rate = value.parse().ok().filter(|rate| *rate > 0)?,
                    "--seed" => plan.seed = value.parse().ok()?,
                    "--folder" => options.folder = Some(value.into()),
                    "--log" => options.log = Some(value.into()),
                    _ => return None,
                }
            }
        }
    }
    Some(options)
}

/// Runs the plan within the enclosure.
fn work(options: Options) -> ExitCode {
    let Options { mut plan, folder, log, with_librdkafka } = options;
    enclosure::settle();
    let is_temporary = folder.is_none();
    plan.folder = folder.unwrap_or_else(|| {
        let folder = tempfile::Builder::new().prefix("varve-bed-").tempdir();
        folder.expect("a temporary folder").keep()
    });
    plan.python = with_librdkafka.then(python).flatten();
    let clients =
        if plan.python.is_some() { "client crate and librdkafka" } else { "client crate" };
    println!("{} brokers, {clients}, seed {}", plan.brokers, plan.seed);
    println!("the folder is {}", plan.folder.display());
    let mut log = log.map(|path| {
        File::options().create(true).append(true).open(path).expect("the log can be written")
    });
    let rounds = run(&plan, |round| {
        tell(round);
        if let Some(log) = &mut log {
            let line = serde_json::to_string(round).expect("a round is JSON");
            writeln!(log, "{line}").expect("the log can be written");
        }
    });
    print!("{}", table(&rounds));
    let wrong = rounds.iter().filter(|round| !round.wrong.is_empty()).count();
    if wrong == 0 && !rounds.is_empty() {
        println!("{} rounds, nothing wrong", rounds.len());
        if is_temporary && !plan.keep {
            let _ = fs::remove_dir_all(&plan.folder);
        }
        return ExitCode::SUCCESS;
    }
    println!(
        "{} rounds, {wrong} WRONG; the folder is kept: {}",
        rounds.len(),
        plan.folder.display()
    );
    ExitCode::FAILURE
}

fn tell(round: &Round) {
    let silence = |client: &str| {
        let found = round.silences.get(client);
        found.map_or_else(|| "–".to_owned(), |silence| format!("{} ms", silence.as_millis()))
    };
    println!(
        "{}.{} {}: {}; silence {} (librdkafka {}), whole again in {} ms, {} acknowledged: {}",
        round.life,
        round.number,
        round.fault,
        round.detail,
        silence("crate"),
        silence("librdkafka"),
        round.healed_in.as_millis(),
        round.acknowledged,
        if round.wrong.is_empty() { "right" } else { "WRONG" },
    );
    for wrong in &round.wrong {
        println!("    {wrong}");
    }
}

/// The Python of the place where `peers/client librdkafka prepare` installs librdkafka.
fn python() -> Option<PathBuf> {
    let cache = std::env::var_os("VARVE_TEST_CACHE").map(PathBuf::from).or_else(|| {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        home.map(|home| home.join(".cache/varve-tests"))
    })?;
    let venv = cache.join("venv-librdkafka");
    venv.join("installed.txt").exists().then(|| venv.join("bin/python"))
}

fn print_table(path: &Path) -> ExitCode {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let mut rounds: Vec<Round> = Vec::new();
    for line in text.lines() {
        match serde_json::from_str::<Round>(line) {
            Ok(round) => {
                // What the end of a life found is told with its last round once more.
                rounds.retain(|known| {
                    (known.seed, known.life, known.number) != (round.seed, round.life, round.number)
                });
                rounds.push(round);
            }
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    print!("{}", table(&rounds));
    ExitCode::SUCCESS
}
