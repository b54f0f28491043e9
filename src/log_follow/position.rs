//! How far a container's log is delivered.
//!
//! The API can be asked for what came since a second, and tells again what came before in that second; and two threads
//! of the runtime write standard output and standard error, so that a line may stand behind one with a later time. So
//! the times of all lines of the last seconds are kept, and lines that come again are known by them. They are in a
//! file, too, where a helper that was restarted finds them.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

const SECOND: i64 = 1_000_000_000;
/// So much older than the last line that was delivered one may be that was not: what lies between is asked for again.
const OVERLAP: i64 = 2 * SECOND;
/// The file is written anew when it is larger, and most of it is old.
const LARGE: usize = 1 << 20;
/// Of a time.
const BYTES: usize = size_of::<i64>();

/// How far a container's log is delivered.
#[derive(Debug)]
pub(super) struct Position {
    path: PathBuf,
    /// The times of lines that were delivered, in the order of the log; none before [`Self::from`].
    recent: VecDeque<i64>,
    /// As many bytes are in the file.
    written: usize,
}

impl Position {
    /// What an earlier process has left behind, or the beginning.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A process that was killed may have left a part of a time at the end.
        let (whole, rest) = text.as_chunks::<BYTES>();
        let recent = whole.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        let mut position = Self { path: path.to_owned(), recent, written: text.len() };
        position.forget();
        if !rest.is_empty() {
            position.rewrite()?;
        }
        Ok(position)
    }

    /// From when on the log is asked for; from its beginning if nothing is delivered.
    pub(super) fn since(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.from()? / SECOND).ok()
    }

    fn from(&self) -> Option<i64> {
        let last = self.recent.back()?;
        Some((last - OVERLAP).div_euclid(SECOND) * SECOND)
    }

    /// The lines that come again when the log is asked for.
    pub(super) fn known(&self) -> Known {
        let mut times = HashMap::new();
        for time in &self.recent {
            *times.entry(*time).or_insert(0) += 1;
        }
        Known(times)
    }

    /// Lines with these times were delivered. They are so even where that cannot be written down.
    pub(super) fn advance(&mut self, delivered: &[i64]) -> io::Result<()> {
        self.recent.extend(delivered);
        self.forget();
        if self.written > LARGE && self.written > 4 * BYTES * self.recent.len() {
            return self.rewrite();
        }
        let bytes: Vec<u8> = delivered.iter().flat_map(|time| time.to_le_bytes()).collect();
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(&bytes)?;
        self.written += bytes.len();
        Ok(())
    }

    fn forget(&mut self) {
        let Some(from) = self.from() else { return };
        while self.recent.front().is_some_and(|time| *time < from) {
            self.recent.pop_front();
        }
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let bytes: Vec<u8> = self.recent.iter().flat_map(|time| time.to_le_bytes()).collect();
        let beside = self.path.with_extension("new");
        fs::write(&beside, &bytes)?;
        fs::rename(&beside, &self.path)?;
        self.written = bytes.len();
        Ok(())
    }
}

/// Lines that were delivered before, each by its time.
#[derive(Debug)]
pub(super) struct Known(HashMap<i64, u32>);

impl Known {
    /// True if a line was delivered; of two with the same time, each is so once.
    pub(super) fn take(&mut self, time: i64) -> bool {
        match self.0.get_mut(&time) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("batchyard-position-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a folder");
            Self(path)
        }

        fn open(&self) -> Position {
            Position::open(&self.0.join("main")).expect("it can be read")
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn it_goes_on_where_it_was() {
        let folder = Folder::new("on");
        let mut position = folder.open();
        assert_eq!(position.since(), None);
        assert!(!position.known().take(1));
        let at = |second: i64, more: i64| (1_772_323_200 + second) * SECOND + more;
        position.advance(&[at(0, 5), at(10, 7), at(10, 7)]).expect("written");
        // One that was taken earlier and stands later.
        position.advance(&[at(10, 6)]).expect("written");
        for position in [&position, &folder.open()] {
            assert_eq!(position.since(), Some(Timestamp::from_second(1_772_323_208).expect("a time")));
            let mut known = position.known();
            let again: Vec<bool> =
                [at(10, 5), at(10, 6), at(10, 7), at(10, 7), at(10, 7)].map(|time| known.take(time)).into();
            assert_eq!(again, [false, true, true, true, false]);
        }
        assert!(!position.known().take(at(0, 5)), "it does not come again");
    }

    #[test]
    fn half_a_time_is_none() {
        let folder = Folder::new("half");
        folder.open().advance(&[SECOND, 2 * SECOND]).expect("written");
        let file = folder.0.join("main");
        File::options()
            .append(true)
            .open(&file)
            .and_then(|mut file| file.write_all(&[1, 2, 3]))
            .expect("a file");
        let mut position = folder.open();
        position.advance(&[3 * SECOND]).expect("written");
        assert_eq!(folder.open().recent, [SECOND, 2 * SECOND, 3 * SECOND]);
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let folder = Folder::new("grow");
        let mut position = folder.open();
        for second in 0..200 {
            let times: Vec<i64> = (0..5_000).map(|n| second * SECOND + n).collect();
            position.advance(&times).expect("written");
            let size = fs::metadata(folder.0.join("main")).expect("a file").len();
            assert!(size < 3 * LARGE as u64, "{size}");
        }
        assert_eq!(folder.open().recent, position.recent);
        assert_eq!(position.recent.len(), 3 * 5_000);
    }
}
