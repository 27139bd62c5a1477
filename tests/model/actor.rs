//! An actor: uses the mount at random and compares results with the model.

use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::world::{CORRUPT, File, World};
use crate::support::{Dice, interpreter};

/// The deadline of any operation: several times the mount's `--timeout`, after
/// faults ended.
const HANG: Duration = Duration::from_mins(2);
/// After faults ended, every operation must succeed within this time, also on a
/// busy machine.
pub(super) const HEALED: Duration = Duration::from_mins(1);
/// Files that an actor has open at most.
const HANDLES: usize = 6;

/// The current faults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Whether operations may fail now; otherwise since when they must succeed.
    pub(super) calm_since: Option<Instant>,
    /// Whether the cache may hold corrupt parts of originals.
    pub(super) was_corrupted: bool,
}

/// An open file of an actor.
#[derive(Debug)]
struct OpenFile<'a> {
    file: fs::File,
    model: &'a File,
    /// The offset of the next read.
    position: u64,
    /// Opened during faults: a handle to a corrupt copy stays bad.
    is_tainted: bool,
}

/// An actor with its random numbers and open files.
pub(super) struct Actor<'a> {
    pub(super) name: String,
    pub(super) root: PathBuf,
    pub(super) dice: Dice,
    handles: Vec<OpenFile<'a>>,
    world: &'a World,
    tells: bool,
    pub(super) steps: usize,
}

/// A difference between an operation's result and the model.
type Compared = Result<(), Wrong>;

#[derive(Debug)]
enum Wrong {
    /// The operation failed, which may be allowed.
    Failed(io::Error),
    /// The operation returned a wrong result, which is never allowed.
    Differs(String),
}

impl From<io::Error> for Wrong {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl<'a> Actor<'a> {
    pub(super) fn new(name: String, world: &'a World, dice: Dice, tells: bool) -> Self {
        Self {
            name,
            root: PathBuf::new(),
            dice,
            handles: Vec::new(),
            world,
            tells,
            steps: 0,
        }
    }

    /// Closes everything, before the daemon ends.
    pub(super) fn close_all(&mut self) {
        self.handles.clear();
    }

    /// Takes `count` steps and returns the differences from the model.
    pub(super) fn act(&mut self, count: usize, weather: Weather) -> Result<(), String> {
        if weather.calm_since.is_none() {
            self.handles.iter_mut().for_each(|h| h.is_tainted = true);
        }
        for _ in 0..count {
            let step = self.dice.roll(100);
            let started = Instant::now();
            let (what, verdict) = self.step(step, weather);
            self.steps += 1;
            let told = format!("{} {what}: {verdict:?}", self.name);
            if self.tells {
                println!("{told}");
            }
            match verdict {
                Ok(()) => {}
                Err(Wrong::Failed(error)) => return Err(format!("{} {what}: {error}", self.name)),
                Err(Wrong::Differs(how)) => return Err(format!("{} {what}: {how}", self.name)),
            }
            if started.elapsed() > HANG {
                return Err(format!("{told}, after {:?}", started.elapsed()));
            }
        }
        Ok(())
    }

    fn step(&mut self, step: usize, weather: Weather) -> (String, Compared) {
        let files = &self.world.files;
        let file = &files[self.dice.roll(files.len())];
        let path = self.root.join(&file.path);
        match step {
            0..20 => self.open(file, weather),
            20..50 => self.read_handle(weather),
            50..60 => self.move_handle(weather),
            60..64 => self.forget_pages(),
            64..76 => {
                let told = format!("reads {}", file.path);
                let read = || same(file, 0, &fs::read(&path)?, weather, true);
                (told, settled(weather, read))
            }
            76..80 => {
                let told = format!("maps {}", file.path);
                let read = || same(file, 0, &mapped(&path)?, weather, true);
                (told, settled(weather, read))
            }
            80..90 => {
                let told = format!("asks for the size of {}", file.path);
                // An estimate is an upper bound; after an open the size is exact.
                (
                    told,
                    settled(weather, || at_least(file, fs::metadata(&path)?.len())),
                )
            }
            90..93 => {
                let path = path.with_file_name(format!("no such {step}"));
                let told = format!("looks for {}", path.display());
                (told, settled(weather, || absent(fs::metadata(&path))))
            }
            _ => {
                let (folder, names) = &self.world.folders[self.dice.roll(self.world.folders.len())];
                let told = format!("lists {folder}");
                let path = self.root.join(folder);
                (told, settled(weather, || same_names(&path, names)))
            }
        }
    }

    fn open(&mut self, model: &'a File, weather: Weather) -> (String, Compared) {
        let path = self.root.join(&model.path);
        let told = format!("opens {}", model.path);
        let mut opened = None;
        let verdict = settled(weather, || {
            let file = fs::File::open(&path)?;
            exactly_unless_unknown(model, file.metadata()?.len())?;
            opened = Some(file);
            Ok(())
        });
        if let Some(file) = opened {
            if self.handles.len() == HANDLES {
                self.handles.remove(self.dice.roll(HANDLES));
            }
            self.handles.push(OpenFile {
                file,
                model,
                position: 0,
                is_tainted: weather.calm_since.is_none(),
            });
        }
        (told, verdict)
    }

    /// Reads a range, at a random offset or where the last read ended.
    fn read_handle(&mut self, weather: Weather) -> (String, Compared) {
        let Some(at) = self.some_handle() else {
            return ("has nothing open".to_owned(), Ok(()));
        };
        let size = self.handles[at].model.bytes.len();
        let len = [0, 1, 100, 4096, 70_000, 300_000][self.dice.roll(6)];
        let offset = (self.dice.roll(3) > 0).then(|| {
            // Sometimes across the end and past it.
            let last = if self.dice.roll(4) == 0 {
                size + 5000
            } else {
                size
            };
            self.dice.roll(last + 1) as u64
        });
        let handle = &mut self.handles[at];
        let begins = offset.unwrap_or(handle.position);
        let told = format!("reads {len} bytes of {} at {begins}", handle.model.path);
        let verdict = read(handle, len, offset, weather);
        (told, self.judged(at, verdict, weather))
    }

    fn move_handle(&mut self, weather: Weather) -> (String, Compared) {
        let Some(at) = self.some_handle() else {
            return ("has nothing open".to_owned(), Ok(()));
        };
        let how = self.dice.roll(3);
        let by = self.dice.roll(100_000) as u64;
        let handle = &mut self.handles[at];
        let size = handle.model.bytes.len() as u64;
        let back = by.min(handle.position);
        let (seek, expected) = match how {
            0 => (SeekFrom::Start(by), by),
            1 => (
                SeekFrom::Current(-back.cast_signed()),
                handle.position - back,
            ),
            _ => (
                SeekFrom::End(-by.min(size).cast_signed()),
                size - by.min(size),
            ),
        };
        let told = format!("seeks {} by {seek:?}", handle.model.path);
        let verdict = match handle.file.seek(seek) {
            Ok(found) if found == expected => Ok(()),
            Ok(found) => Err(Wrong::Differs(format!("{found}, not {expected}"))),
            Err(error) => Err(error.into()),
        };
        handle.position = expected;
        (told, self.judged(at, verdict, weather))
    }

    /// Makes the kernel drop its cached pages of a file.
    fn forget_pages(&mut self) -> (String, Compared) {
        if let Some(at) = self.some_handle() {
            let file = &self.handles[at].file;
            let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
            posix_fadvise(file, 0, 0, advice).expect("advice is always taken");
        }
        ("drops pages".to_owned(), Ok(()))
    }

    fn some_handle(&mut self) -> Option<usize> {
        (!self.handles.is_empty()).then(|| self.dice.roll(self.handles.len()))
    }

    /// Closes a handle that failed; it may fail if there was a fault since it was
    /// opened.
    fn judged(&mut self, at: usize, verdict: Compared, weather: Weather) -> Compared {
        match verdict {
            Err(Wrong::Failed(error)) => {
                let handle = self.handles.remove(at);
                let healed = |since: Instant| since.elapsed() > HEALED;
                if handle.is_tainted || !weather.calm_since.is_some_and(healed) {
                    return Ok(());
                }
                Err(error.into())
            }
            other => other,
        }
    }
}

/// Reads like a program: until the buffer is full or the file ends.
fn read(handle: &mut OpenFile<'_>, len: usize, offset: Option<u64>, weather: Weather) -> Compared {
    let begins = offset.unwrap_or(handle.position);
    let mut found = vec![0; len];
    let mut got = 0;
    let outcome = loop {
        let rest = &mut found[got..];
        let next = match offset {
            Some(offset) => handle.file.read_at(rest, offset + got as u64),
            None => handle.file.read(rest),
        };
        match next {
            Ok(0) => break Ok(()),
            Ok(more) => got += more,
            Err(error) => break Err(error),
        }
    };
    found.truncate(got);
    if offset.is_none() {
        handle.position += got as u64;
    }
    // Bytes read before a failure are compared too.
    same(handle.model, begins, &found, weather, false)?;
    outcome?;
    let size = handle.model.bytes.len() as u64;
    let expected = size.saturating_sub(begins).min(len as u64);
    if got as u64 == expected {
        return Ok(());
    }
    Err(Wrong::Differs(format!("{got} bytes, not {expected}")))
}

/// Runs `operation`, which may fail during faults. Shortly after faults ended
/// it is repeated until it succeeds, within `HEALED`.
fn settled(weather: Weather, mut operation: impl FnMut() -> Compared) -> Compared {
    loop {
        match (operation(), weather.calm_since) {
            (Err(Wrong::Failed(_)), None) => return Ok(()),
            (Err(Wrong::Failed(_)), Some(since)) if since.elapsed() < HEALED => {
                std::thread::sleep(Duration::from_millis(200));
            }
            (verdict, _) => return verdict,
        }
    }
}

fn same(model: &File, offset: u64, found: &[u8], weather: Weather, whole: bool) -> Compared {
    let start = usize::try_from(offset).unwrap().min(model.bytes.len());
    let expected = &model.bytes[start..];
    if whole && found.len() != expected.len() {
        let lens = format!("{} bytes, not {}", found.len(), expected.len());
        return Err(Wrong::Differs(lens));
    }
    let Some(expected) = expected.get(..found.len()) else {
        return Err(Wrong::Differs(format!(
            "bytes past the end: {}",
            found.len()
        )));
    };
    let differs = |(at, (a, b)): (usize, (&u8, &u8))| (a != b).then_some((start + at, *a, *b));
    let mut all = found.iter().zip(expected).enumerate().filter_map(differs);
    let excused = !whole && weather.was_corrupted && model.is_original;
    match all.next() {
        None => Ok(()),
        Some((at, a, b)) if excused && at as u64 == CORRUPT && a == !b && all.next().is_none() => {
            Ok(())
        }
        Some((at, a, b)) => {
            let more = all.count();
            let told = format!("byte {at} is {a:#x}, not {b:#x}, and {more} more differ");
            Err(Wrong::Differs(told))
        }
    }
}

/// Reads the file by page faults, in another process, since a failed fault kills
/// it. Writing the mapping directly would not fault: the kernel writes less,
/// and Python does not report it.
fn mapped(path: &std::path::Path) -> io::Result<Vec<u8>> {
    let script = "import mmap, os, sys\n\
        f = open(sys.argv[1], 'rb')\n\
        n = os.fstat(f.fileno()).st_size\n\
        if n: sys.stdout.buffer.write(bytes(mmap.mmap(f.fileno(), n, access=mmap.ACCESS_READ)))\n";
    let output = interpreter()
        .args(["-S", "-c", script])
        .arg(path)
        .output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("{} {said}", output.status)));
    }
    Ok(output.stdout)
}

fn exactly(model: &File, len: u64) -> Compared {
    if len == model.bytes.len() as u64 {
        return Ok(());
    }
    let told = format!("{len} bytes long, not {}", model.bytes.len());
    Err(Wrong::Differs(told))
}

/// Until a file can be downloaded, it has the estimate even while it is open: a failed
/// `fstat` would end a copy of the whole folder. That is a failure here, so that it is
/// allowed during faults only, and for a short time after them.
fn exactly_unless_unknown(model: &File, len: u64) -> Compared {
    let size = model.bytes.len() as u64;
    if len > size && !model.is_original {
        let told = format!("{len} bytes long by an estimate, not {size}");
        return Err(Wrong::Failed(io::Error::other(told)));
    }
    exactly(model, len)
}

fn at_least(model: &File, len: u64) -> Compared {
    if len >= model.bytes.len() as u64 {
        return Ok(());
    }
    exactly(model, len)
}

fn absent(found: io::Result<fs::Metadata>) -> Compared {
    match found {
        Ok(metadata) => Err(Wrong::Differs(format!("{metadata:?}"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn same_names(folder: &std::path::Path, expected: &[String]) -> Compared {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string();
        names.push(name.map_err(|name| Wrong::Differs(format!("{}", name.display())))?);
    }
    names.sort();
    if names == expected {
        return Ok(());
    }
    let missing: Vec<_> = expected
        .iter()
        .filter(|name| !names.contains(name))
        .collect();
    let more: Vec<_> = names
        .iter()
        .filter(|name| !expected.contains(name))
        .collect();
    Err(Wrong::Differs(format!(
        "missing {missing:?}, besides {more:?}"
    )))
}
