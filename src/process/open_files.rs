//! How many files may be open: more for hotrun, whose proxy has two for each request, than for what
//! it runs. Programs that use `select` fail with more than they expect.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};

/// As many as a proxy can need. macOS refuses more than 10,240.
const MAX: rlim_t = if cfg!(target_os = "macos") { 10_240 } else { 65_536 };

/// The limit that hotrun was started with, if it has a higher one now.
static BEFORE: OnceLock<rlim_t> = OnceLock::new();

/// Raises the limit for hotrun itself, as far as the system allows.
pub(crate) fn allow_more() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let wanted = hard.min(MAX);
    if wanted > soft && BEFORE.set(soft).is_ok() {
        // Where that is refused, the proxy serves fewer requests at once.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard);
    }
}

/// The limit for what hotrun runs, if it is another one than hotrun's own.
pub(super) fn for_others() -> Option<rlim_t> {
    BEFORE.get().copied()
}

/// Lowers the limit of this process, a guardian, to that of what it runs.
pub(super) fn lower_to(soft: rlim_t) {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard);
    }
}
