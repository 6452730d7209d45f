//! `cargo xtask COMMAND`: picks the chore, and nothing else.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "help and errors go to whoever typed the command")]

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND
  tidy     hold the tree to the house's rules: one line per finding, exit code 1 when there is any
  test     every check: formatting, lints, tidy, all tests, and the readers and clients of tests/external
  bench    CPU time per million records against the floor, memory, and SQL timings; --help tells its options
  simulate weeks of trouble drawn from seeds, and what must hold after each; --help tells its options
  scale-test several workers on one ledger and one store, while everything goes wrong; --help tells its options";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["tidy"] => xtask::tidy::run(),
        ["test"] => xtask::test::run(),
        ["bench", options @ ..] => xtask::bench::run(options),
        ["scale-test", options @ ..] => xtask::scale_test::run(options),
        ["simulate", options @ ..] => xtask::simulate::run(options),
        [] | ["help" | "-h" | "--help"] => {
            println!("{HELP}");
            Ok(true)
        }
        _ => {
            eprintln!("no such command: {}\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
