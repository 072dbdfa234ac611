use super::*;
use crate::project::Question;

/// Nobody is asked in these tests.
struct Nobody;

impl Ask for Nobody {
    async fn ask(&self, question: Question) -> Result<Vec<u8>> {
        Err(Error::failed(format!("{:?}", question.argv), "asked in a test"))
    }
}

/// Resolves a configuration as if it lay in a directory of its own.
pub(crate) fn resolve(name: &str, text: &str) -> Result<Config> {
    let directory = tempfile::tempdir().unwrap().keep();
    resolve_in(&directory, name, text, &[])
}

fn resolve_in(directory: &Path, name: &str, text: &str, args: &[&str]) -> Result<Config> {
    std::fs::write(directory.join(name), text).unwrap();
    let options = Options {
        directory: directory.canonicalize().unwrap(),
        config: Some(name.into()),
        args: args.iter().map(OsString::from).collect(),
        ..Options::default()
    };
    let config = now(load(&options, &Nobody));
    std::fs::remove_dir_all(directory).unwrap();
    config
}

/// A future that never waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}
