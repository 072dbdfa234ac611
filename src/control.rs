//! Orders from other terminals, over this hotrun's own socket: `hotrun rollback`, `hotrun
//! --takeover`.
//!
//! A request is one line of JSON, and so is the answer. Only the user that hotrun belongs to can
//! access the socket, and only this user and root get an answer.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{sleep, timeout};

use crate::error::{Error, Result};
use crate::event::Order;
use crate::inbox::Inbox;
use crate::present::Present;
use crate::process;

const PURPOSE: &str = "control";
const ACCEPT_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Timeout for reading a request and for answering it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout for an answer that needs no work.
const PROMPT_TIMEOUT: Duration = Duration::from_millis(300);
/// Maximum number of clients that are served at the same time; others wait.
const MAX_CLIENTS: usize = 16;
/// Maximum size of a request, in bytes.
const MAX_REQUEST: usize = 16 << 10;

#[derive(Debug, Serialize, Deserialize)]
struct Question {
    /// The directory of the project that the request is for.
    project: OsString,
    order: Word,
}

/// The part of a [`Question`] that every version understands.
#[derive(Debug, Deserialize)]
struct Address {
    project: OsString,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Rollback,
    Status,
    /// Exit, and leave the project to the hotrun with this pid.
    Takeover(u32),
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// Done, with this message.
    Done(String),
    /// What is being made, and who serves.
    Present(Box<Present>),
    /// Refused, for this reason.
    Refused(String),
    /// The request is for another project.
    Elsewhere,
}

/// What another process requests.
#[derive(Debug)]
pub(crate) enum Request {
    /// An order. The process waits for the answer.
    Order(Order, oneshot::Sender<std::result::Result<String, String>>),
    /// The hotrun with this pid takes over from this one.
    TakeOver(u32),
}

/// The control socket of this hotrun. Requests are answered until this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Server {
    /// Passes requests for this project on to the inbox. Returns `None` if no socket can be
    /// created; then no orders are possible.
    pub(crate) fn start(
        project: &Path,
        inbox: Inbox<Request>,
        present: watch::Receiver<Present>,
    ) -> Option<Self> {
        let path = process::own_file(PURPOSE)?;
        let listener = UnixListener::bind(&path)
            .inspect_err(|error| tracing::warn!(%error, "no orders can be received"))
            .ok()?;
        let project = canonical(project);
        let task = spawn_local(async move {
            let clients = Arc::new(Semaphore::new(MAX_CLIENTS));
            loop {
                // The semaphore is never closed.
                let Ok(place) = Arc::clone(&clients).acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    // No descriptor is left, for example. There may be one later.
                    sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                };
                if !stream.peer_cred().is_ok_and(|peer| process::may_give_orders(peer.uid())) {
                    continue;
                }
                let (project, inbox) = (project.clone(), inbox.clone());
                let present = present.clone();
                spawn_local(async move {
                    let answering = answer(&stream, &project, &inbox, &present);
                    // A client that is too slow gets no answer.
                    let _ = timeout(REQUEST_TIMEOUT, answering).await;
                    drop(place);
                });
            }
        });
        Some(Self { path, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn answer(
    stream: &UnixStream,
    project: &Path,
    inbox: &Inbox<Request>,
    present: &watch::Receiver<Present>,
) -> io::Result<()> {
    let mut received = Vec::new();
    while !received.contains(&b'\n') && received.len() < MAX_REQUEST {
        stream.readable().await?;
        let mut buffer = [0; 1024];
        match stream.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    let of_project = serde_json::from_slice::<Address>(&received);
    let is_elsewhere = of_project.is_ok_and(|address| Path::new(&address.project) != project);
    let answer = match serde_json::from_slice::<Question>(&received) {
        // A newer hotrun may know more orders.
        _ if is_elsewhere => Answer::Elsewhere,
        Err(error) => Answer::Refused(format!("not understood: {error}")),
        Ok(Question { order: Word::Takeover(pid), .. }) => {
            if inbox.send(Request::TakeOver(pid)) {
                Answer::Done("it ends".to_owned())
            } else {
                Answer::Refused("it ends".to_owned())
            }
        }
        Ok(Question { order: Word::Status, .. }) => {
            Answer::Present(Box::new(present.borrow().clone()))
        }
        Ok(Question { order: Word::Rollback, .. }) => {
            let (sender, answer) = oneshot::channel();
            let is_sent = inbox.send(Request::Order(Order::Rollback, sender));
            match answer.await {
                Ok(Ok(said)) if is_sent => Answer::Done(said),
                Ok(Err(why)) => Answer::Refused(why),
                _ => Answer::Refused("it ends".to_owned()),
            }
        }
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    let mut rest = line.as_slice();
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes every hotrun in this project start its last good artifact. Returns their answers.
///
/// # Errors
///
/// No hotrun runs there, or all have refused.
pub(crate) fn roll_back(project: &Path) -> Result<Vec<String>> {
    let of = |answer| if let Answer::Done(words) = answer { Some(words) } else { None };
    ask_all("hotrun rollback", project, Word::Rollback, of)
}

/// Returns what every hotrun in this project is doing.
///
/// # Errors
///
/// No hotrun runs there, or none answers.
pub(crate) fn status(project: &Path) -> Result<Vec<Present>> {
    let of = |answer| if let Answer::Present(present) = answer { Some(*present) } else { None };
    ask_all("hotrun status", project, Word::Status, of)
}

/// Asks every hotrun in this project. Returns what `of` finds in their answers.
fn ask_all<T>(
    input: &str,
    project: &Path,
    order: Word,
    of: impl Fn(Answer) -> Option<T>,
) -> Result<Vec<T>> {
    let project = canonical(project);
    let question = Question { project: project.clone().into(), order };
    let (mut said, mut refused, mut is_silent) = (Vec::new(), Vec::new(), false);
    for path in process::files_for(PURPOSE) {
        match ask(&path, &question, REQUEST_TIMEOUT) {
            Ok(Answer::Refused(why)) => refused.push(why),
            Ok(Answer::Elsewhere) => {}
            Ok(answer) => said.extend(of(answer)),
            Err(error) => {
                // Connection refused: that hotrun was killed.
                is_silent |= error.kind() != ErrorKind::ConnectionRefused;
            }
        }
    }
    if !said.is_empty() {
        return Ok(said);
    }
    if !refused.is_empty() {
        return Err(Error::failed(input, refused.join("; ")));
    }
    let error = Error::failed(input, format!("no hotrun runs in {}", project.display()));
    Err(if is_silent {
        error.remedy("one does not answer: if it was stopped by Ctrl-Z, resume it with fg")
    } else {
        let word = input.trim_start_matches("hotrun ");
        error.remedy(format!("name its directory: hotrun -C DIR {word}"))
    })
}

/// Asks the hotrun with this mark, which runs in this project, to exit. Its own terminal shows why.
/// If it does not answer at once, since it has just started or is stopped, it gets a signal.
pub(crate) fn take_over(owner: &str, project: &Path) {
    let order = Word::Takeover(std::process::id());
    let question = Question { project: canonical(project).into(), order };
    let asked = process::file_of(PURPOSE, owner)
        .ok_or_else(|| io::Error::from(ErrorKind::NotFound))
        .and_then(|path| ask(&path, &question, PROMPT_TIMEOUT));
    tracing::debug!(?asked, "{owner}");
    match asked {
        Ok(Answer::Done(_)) => {}
        // It reads the request as soon as it continues.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            process::signal_other(owner, Signal::SIGCONT);
        }
        Ok(_) | Err(_) => {
            process::signal_other(owner, Signal::SIGTERM);
            process::signal_other(owner, Signal::SIGCONT);
        }
    }
}

fn ask(path: &Path, question: &Question, patience: Duration) -> io::Result<Answer> {
    let mut stream = StdUnixStream::connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn canonical(project: &Path) -> PathBuf {
    project.canonicalize().unwrap_or_else(|_| project.to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::Shutdown;

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[test]
    fn fuzz_whatever_is_asked_is_answered_in_one_line_and_only_orders_reach_the_inbox() {
        let corpus = [
            "{\"project\":{\"Unix\":[47]},\"order\":{\"takeover\":7}}\n",
            "{\"project\":{\"Unix\":[47,120]},\"order\":\"rollback\"}\n",
            "{\"project\":{\"Unix\":[47]},\"order\":\"status\"}\n",
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _entered = runtime.enter();
        crate::fuzz::hammer(&corpus, &["\"order\"", "null", "{", "4294967296"], |text| {
            let (mut ours, theirs) = StdUnixStream::pair().unwrap();
            ours.write_all(text).unwrap();
            ours.shutdown(Shutdown::Write).unwrap();
            theirs.set_nonblocking(true).unwrap();
            let (sender, mut requests) = unbounded_channel();
            let inbox = Inbox::new(&sender, |request: Request| request);
            let theirs = UnixStream::from_std(theirs).unwrap();
            runtime.block_on(async {
                let (_sender, present) = watch::channel(Present::default());
                let answering = answer(&theirs, Path::new("/"), &inbox, &present);
                let obeying = async { while requests.recv().await.is_some() {} };
                tokio::select! {
                    answered = answering => answered.unwrap(),
                    () = obeying => {}
                }
            });
            drop(theirs);
            let mut said = String::new();
            ours.read_to_string(&mut said).unwrap();
            assert_eq!(said.matches('\n').count(), 1, "{said:?}");
            assert!(serde_json::from_str::<Answer>(&said).is_ok(), "{said:?}");
        });
    }
}
