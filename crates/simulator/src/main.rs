//! `simulator …`, started by `cargo xtask simulate`: many seeds on all processors, one with its trace, the planted bugs, or a
//! month.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "results and errors go to whoever typed the command")]

mod arguments;
mod chores;

use std::process::ExitCode;

use arguments::{Arguments, Chore};

fn main() -> ExitCode {
    let arguments = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(problem) => {
            eprintln!("{problem}\n\n{}", arguments::HELP);
            return ExitCode::from(2);
        }
    };
    let good = match arguments.chore {
        Chore::Help => {
            println!("{}", arguments::HELP);
            true
        }
        Chore::Many => chores::many(&arguments),
        Chore::One { trace } => chores::one(&arguments, trace),
        Chore::Planted => chores::planted(&arguments),
        Chore::Month => chores::month(&arguments),
        Chore::Fleet => chores::fleet(&arguments),
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
