//! `hotrun`: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    hotrun::cli::main()
}
