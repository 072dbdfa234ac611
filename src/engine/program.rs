//! Detects whether a build has left the running program unchanged: by the identity of files that
//! the build has not touched, else byte for byte.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::core::attribution::Outcome;
use crate::event::Proc;

/// Size of the pieces in which files are compared, in bytes. The comparison stops at the first
/// difference. The notes with build IDs are in the first piece.
const PIECE: usize = 64 << 10;
/// Maximum size of a program that is compared, in bytes. A larger one counts as changed if the
/// build has written it.
const MAX_READ: u64 = 256 << 20;

/// The program that was built last, and the app that was started from it.
#[derive(Debug, Default)]
pub(super) struct Built {
    files: Vec<Known>,
    /// Incremented by each build that leaves another program.
    number: u64,
    app: Option<(Proc, u64)>,
}

/// A file as the last build left it.
#[derive(Debug)]
struct Known {
    path: PathBuf,
    identity: Identity,
    pieces: Pieces,
}

/// Hashes of the pieces of a file, which a thread computes.
#[derive(Debug)]
enum Pieces {
    Awaited(oneshot::Receiver<Option<Vec<u64>>>),
    There(Vec<u64>),
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn new(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.len(),
            written: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    fn of(path: &Path) -> Option<Self> {
        path.metadata().ok().filter(Metadata::is_file).map(|meta| Self::new(&meta))
    }
}

impl Built {
    /// Compares the files of a program that was just built with those of the build before.
    pub(super) fn built(&mut self, files: &[PathBuf]) -> Outcome {
        if files.is_empty() {
            self.files.clear();
            return Outcome::Unknown;
        }
        let is_same = self.files.len() == files.len()
            && self.files.iter_mut().zip(files).all(|(known, path)| known.is_still(path));
        if is_same {
            return Outcome::Same;
        }
        self.files = files.iter().filter_map(|path| Known::new(path)).collect();
        Outcome::Different
    }

    /// Notes that the program counts as another one than the one that runs.
    pub(super) fn replaced(&mut self) {
        self.number += 1;
    }

    /// Notes that an app is started from the last build.
    pub(super) fn started(&mut self, app: Proc) {
        self.app = Some((app, self.number));
    }

    /// Notes that the running app must be restarted, since its configuration has changed.
    pub(super) fn forget_app(&mut self) {
        self.app = None;
    }

    /// The app that was started from exactly the last build.
    pub(super) fn app(&self) -> Option<Proc> {
        self.app.filter(|(_, number)| *number == self.number).map(|(app, _)| app)
    }
}

impl Known {
    fn new(path: &Path) -> Option<Self> {
        let mut known =
            Self { path: path.to_owned(), identity: Identity::of(path)?, pieces: Pieces::Unknown };
        known.read();
        Some(known)
    }

    /// Starts a thread that reads the file.
    fn read(&mut self) {
        let (sender, receiver) = oneshot::channel();
        let (path, identity) = (self.path.clone(), self.identity);
        let read = move || {
            // The receiver may be gone.
            let _ = sender.send(pieces(&path, identity));
        };
        self.pieces = match std::thread::Builder::new().name("digest".to_owned()).spawn(read) {
            Ok(_) => Pieces::Awaited(receiver),
            // Without hashes, the file counts as changed when it is written again.
            Err(_) => Pieces::Unknown,
        };
    }

    /// Whether the file's contents are unchanged.
    fn is_still(&mut self, path: &Path) -> bool {
        let Some(identity) = Identity::of(path).filter(|_| self.path == path) else { return false };
        if identity == self.identity {
            return true;
        }
        if let Pieces::Awaited(receiver) = &mut self.pieces {
            self.pieces = match receiver.try_recv() {
                Ok(Some(pieces)) => Pieces::There(pieces),
                Ok(None) | Err(_) => Pieces::Unknown,
            };
        }
        let Pieces::There(pieces) = &self.pieces else { return false };
        let is_same = identity.size == self.identity.size
            && File::open(path).is_ok_and(|file| has_pieces(file, pieces));
        if is_same {
            self.identity = identity;
        }
        is_same
    }
}

/// Returns the hashes of a file's pieces, unless the file was replaced or changed meanwhile.
fn pieces(path: &Path, identity: Identity) -> Option<Vec<u64>> {
    let mut file = File::open(path).ok()?;
    let is_meant = |file: &File| file.metadata().is_ok_and(|meta| Identity::new(&meta) == identity);
    if identity.size > MAX_READ || !is_meant(&file) {
        return None;
    }
    let mut pieces = Vec::new();
    let mut piece = Vec::with_capacity(PIECE);
    while let Some(hash) = next_piece(&mut file, &mut piece, pieces.is_empty()) {
        pieces.push(hash);
    }
    is_meant(&file).then_some(pieces)
}

fn has_pieces(mut file: File, pieces: &[u64]) -> bool {
    let mut piece = Vec::with_capacity(PIECE);
    let mut expected = pieces.iter();
    let mut is_first = true;
    while let Some(hash) = next_piece(&mut file, &mut piece, is_first) {
        is_first = false;
        if expected.next() != Some(&hash) {
            return false;
        }
    }
    expected.next().is_none()
}

fn next_piece(file: &mut File, piece: &mut Vec<u8>, is_first: bool) -> Option<u64> {
    piece.clear();
    file.take(PIECE as u64).read_to_end(piece).ok().filter(|length| *length > 0)?;
    if is_first {
        blank_build_ids(piece);
    }
    let mut hasher = DefaultHasher::new();
    piece.hash(&mut hasher);
    Some(hasher.finish())
}

/// Owners and types of ELF notes that name a build and do not affect the program. Go's build ID
/// also hashes the sources, comments included.
const BUILD_IDS: [(&[u8], u32); 2] = [(b"Go\0\0", 4), (b"GNU\0", 3)];

fn blank_build_ids(piece: &mut [u8]) {
    for (owner, kind) in BUILD_IDS {
        // Size of the owner's name, size of the note, type; then the name, then the note.
        let mut place = 0;
        while let Some(found) = piece[place..].windows(4).position(|bytes| bytes == owner) {
            let name = place + found;
            place = name + 4;
            let word = |at: usize| {
                let bytes = piece.get(at..at + 4)?.try_into().ok()?;
                Some(u32::from_ne_bytes(bytes))
            };
            let Some(header) = name.checked_sub(12) else { continue };
            let is_note = word(header) == Some(4) && word(header + 8) == Some(kind);
            let size = word(header + 4).filter(|size| *size <= 256 && is_note);
            let note = size.and_then(|size| piece.get_mut(place..place + size as usize));
            if let Some(note) = note {
                note.fill(0);
            }
        }
    }
}

/// Whether a program was linked by the Go toolchain.
pub(super) fn is_go(path: &Path) -> bool {
    let mut piece = Vec::with_capacity(PIECE);
    let read = File::open(path).and_then(|file| file.take(PIECE as u64).read_to_end(&mut piece));
    let note = [4, 0, 0, 0, b'G', b'o', 0, 0];
    read.is_ok() && piece.windows(note.len()).any(|bytes| bytes == note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(owner: [u8; 4], kind: u32, text: &[u8]) -> Vec<u8> {
        let size = u32::try_from(text.len()).unwrap();
        let words = [4_u32, size, kind].map(u32::to_ne_bytes).concat();
        [&words, owner.as_slice(), text].concat()
    }

    #[test]
    fn build_ids_are_no_part_of_the_program_and_all_else_is() {
        let program = |go: &[u8], gnu: &[u8], other: &[u8]| {
            let notes =
                [note(*b"Go\0\0", 4, go), note(*b"GNU\0", 3, gnu), note(*b"GNU\0", 1, other)];
            let mut text = [b"\x7fELF Go\0\0 GNU\0".to_vec(), notes.concat()].concat();
            blank_build_ids(&mut text);
            text
        };
        assert_eq!(program(b"abcd", b"ef", b"g"), program(b"ABCD", b"EF", b"g"));
        assert_ne!(program(b"abcd", b"ef", b"g"), program(b"abcd", b"ef", b"G"));
        blank_build_ids(b"Go\0\0".to_vec().as_mut_slice());
        blank_build_ids(&mut [4, 0, 0, 0, 255, 255, 255, 255, 4, 0, 0, 0, b'G', b'o', 0, 0]);
    }

    fn wait(built: &mut Built) {
        for known in &mut built.files {
            if let Pieces::Awaited(receiver) = std::mem::replace(&mut known.pieces, Pieces::Unknown)
            {
                known.pieces = Pieces::There(receiver.blocking_recv().unwrap().unwrap());
            }
        }
    }

    #[test]
    fn a_file_is_the_same_if_it_is_untouched_or_written_again_byte_for_byte() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app");
        let long = |last: u8| [vec![7; 3 * PIECE], vec![last]].concat();
        std::fs::write(&path, long(1)).unwrap();
        let files = [path.clone()];
        let mut built = Built::default();
        assert_eq!(built.built(&files), Outcome::Different, "the first");
        built.started(Proc(5));
        assert_eq!(built.built(&files), Outcome::Same, "untouched");
        wait(&mut built);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, long(1)).unwrap();
        assert_eq!(built.built(&files), Outcome::Same, "written again");
        assert_eq!(built.app(), Some(Proc(5)));
        std::fs::write(&path, long(2)).unwrap();
        assert_eq!(built.built(&files), Outcome::Different, "the last byte");
        built.replaced();
        assert_eq!(built.app(), None);
        wait(&mut built);
        std::fs::write(&path, [long(2), vec![0]].concat()).unwrap();
        assert_eq!(built.built(&files), Outcome::Different, "one byte more");
        assert_eq!(built.built(&[]), Outcome::Unknown);
    }
}
