//! The examples run as the README says.

use crate::sandbox::{Sandbox, free_port, get, has};

#[test]
fn hello_greets_and_greets_anew_after_a_save() {
    if !has("hello_greets_and_greets_anew_after_a_save", &["cargo"]) {
        return;
    }
    let port = free_port();
    let project = Sandbox::empty().of_example("hello").env("PORT", &port.to_string());
    let mut hotrun = project.start(&[]);
    assert!(get(port, "/").ends_with("Hello from hotrun\n"));
    hotrun.wait_for("ready");
    project.sh("sed -i 's/Hello from hotrun/Good evening/' src/main.rs");
    hotrun.wait_for("ready");
    assert!(get(port, "/").ends_with("Good evening\n"));
    hotrun.end();
}
