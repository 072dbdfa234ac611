//! How many paths per second the filter judges: `cargo bench --bench filter`.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "prints; panics on errors")]
#![allow(dead_code, reason = "each benchmark uses only a part of `common`")]

mod common;

use std::path::PathBuf;
use std::time::Instant;

use common::{head, option, row};
use hotrun::config::{self, Options};
use hotrun::error::{Error, Result};
use hotrun::filter::{Filter, Verdict};
use hotrun::project::{Ask, Question};

/// Answers no queries: the configurations have a `cmd`, so there are none.
struct NoAnswers;

impl Ask for NoAnswers {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        Err(Error::failed("the benchmark", format!("{:?} was asked for", question.argv)))
    }
}

const CONFIGURATIONS: [(&str, &str, &str); 3] = [
    ("everything", "hotrun.toml", "[build]\ncmd = \"true\"\n"),
    ("air's defaults", ".air.toml", ""),
    (
        "globs and a rule",
        "hotrun.toml",
        "[build]\ncmd = \"true\"\ninclude_ext = [\"rs\", \"toml\"]\nexclude_dir = [\"web/dist\"]\n\
         exclude_regex = [\"_test\\\\.rs$\"]\n[[build.rules]]\ninclude_ext = [\"css\"]\ncmd = \"true\"\n\
         [watch]\nexclude = [\"**/gen/**\", \"*.bak\"]\ninclude = [\"conf/**/*.yaml\"]\n",
    ),
];

fn main() {
    let millions = option("millions", 1);
    head(&format!("{millions} million paths"), &["ns a path", "paths/s", "that matter"]);
    for (name, file, text) in CONFIGURATIONS {
        let place =
            std::env::temp_dir().join(format!("hotrun-bench-filter-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let place = place.canonicalize().unwrap();
        std::fs::write(place.join(file), text).unwrap();
        let options =
            Options { directory: place.clone(), config: Some(file.into()), ..Options::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let config = runtime.block_on(config::load(&options, &NoAnswers)).unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        let filter = Filter::new(config.only().watch.clone());
        let extensions = ["rs", "go", "html", "css", "o", "js"];
        let paths: Vec<PathBuf> = (0..millions * 1_000_000)
            .map(|number| {
                let extension = extensions[number as usize % extensions.len()];
                let (outer, inner) = (number % 7, number % 1000);
                place.join(format!("crate{outer}/src/module{inner}/file{number}.{extension}"))
            })
            .collect();
        let began = Instant::now();
        let matter = paths.iter().filter(|path| filter.file(path) != Verdict::Ignored).count();
        let took = began.elapsed().as_secs_f64();
        let all = f64::from(millions) * 1e6;
        let columns =
            [format!("{:.0}", took / all * 1e9), format!("{:.0}", all / took), matter.to_string()];
        row(name, &columns);
    }
}
