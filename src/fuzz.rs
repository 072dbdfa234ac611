//! Fuzzing: malformed input from outside must be read without a panic.
//!
//! Each target starts with a small corpus, which is mutated at random. In a run of all tests each
//! target takes a second, always with the same mutations. `HOTRUN_FUZZ_SECONDS=3600 cargo test
//! --lib fuzz` runs each for that time, with different mutations each time. A failing input is
//! minimised and printed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// One mutation: its kind, position, length and inserted word.
type Change = (u8, u16, u8, u8);

/// Words that are inserted, beside those of a target.
const WORDS: [&str; 12] =
    ["\0", "\n", "\"", "'", "\\", "=", "[", "]", "\u{202e}", "99999999999999999999", "-1", "é"];

/// Runs `check` on the corpus and on mutations of it. `words` are those of the format.
pub(crate) fn hammer(corpus: &[&str], words: &[&str], check: impl Fn(&[u8])) {
    let seconds = std::env::var("HOTRUN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(1));
    let texts: Vec<Vec<u8>> = corpus.iter().map(|text| text.as_bytes().to_vec()).collect();
    for text in &texts {
        check(text);
    }
    let words: Vec<&str> = words.iter().chain(&WORDS).copied().collect();
    let inputs = (select(texts), prop::collection::vec(any::<Change>(), 0..12));
    let config = Config { failure_persistence: None, cases: 64, ..Config::default() };
    for round in 0_u64.. {
        if Instant::now() >= until {
            return;
        }
        let mut runner = if seconds.is_some() {
            TestRunner::new(config.clone())
        } else {
            let seed = [round; 4].map(u64::to_le_bytes).concat();
            TestRunner::new_with_rng(
                config.clone(),
                TestRng::from_seed(RngAlgorithm::ChaCha, &seed),
            )
        };
        let outcome = runner.run(&inputs, |(text, changes)| {
            let input = changes.iter().fold(text, |text, change| changed(text, *change, &words));
            let shown = String::from_utf8_lossy(&input).into_owned();
            catch_unwind(AssertUnwindSafe(|| check(&input)))
                .map_err(|_| TestCaseError::fail(format!("a panic at {shown:?}")))
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }
}

fn changed(mut text: Vec<u8>, (kind, place, length, of): Change, words: &[&str]) -> Vec<u8> {
    let at = usize::from(place) % (text.len() + 1);
    let end = (at + usize::from(length)).min(text.len());
    let word = words[usize::from(of) % words.len()].as_bytes();
    match kind % 7 {
        0 => text.splice(at..at, word.iter().copied()).for_each(drop),
        1 => drop(text.drain(at..end)),
        2 => {
            let piece = text[at..end].to_vec();
            text.splice(at..at, piece).for_each(drop);
        }
        3 => text.splice(at..end, word.iter().copied()).for_each(drop),
        4 => text.iter_mut().skip(at).take(1).for_each(|byte| *byte = of),
        5 => text.truncate(at),
        _ => {
            // Copies a piece from elsewhere.
            let from = usize::from(of) * text.len() / 256;
            let piece = text[from..(from + usize::from(length)).min(text.len())].to_vec();
            text.splice(at..end, piece).for_each(drop);
        }
    }
    text
}

#[test]
fn what_a_check_refuses_is_found_and_printed() {
    let found = catch_unwind(|| {
        hammer(&["a = 1\n"], &["secret"], |text| {
            assert!(!text.windows(6).any(|six| six == b"secret"));
        });
    });
    let told = *found.unwrap_err().downcast::<String>().unwrap();
    assert!(told.contains("secret"), "{told}");
}
