//! Settings of one case: the disk, the bounds, the objects and their readers.

use std::fmt;

use icos_portal::ObjectId;

use super::MIB;
use super::reads::Pattern;
use crate::support::Dice;

/// A case.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    /// Size of the file system of the cache folder, in MiB.
    pub(super) disk: u64,
    /// How many percent of it other files take.
    pub(super) filled: u64,
    /// `--cache-size` in MiB; `None` for the default.
    pub(super) cache: Option<u64>,
    /// `--memory` in MiB.
    pub(super) memory: u64,
    /// Delay of every response with data, in milliseconds.
    pub(super) round_trip: u64,
    pub(super) objects: Vec<Object>,
    pub(super) readers: Vec<Reader>,
}

/// An object to serve.
#[derive(Clone, Copy, Debug)]
pub(super) enum Object {
    Original {
        len: u64,
    },
    /// The first column has 8 bytes a row, the others 4.
    Table {
        columns: usize,
        rows: u64,
    },
}

/// What is read of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Format {
    Original,
    Csv,
    Cpb,
}

/// A reader, which opens a file and reads it with a pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    /// The index of its object.
    pub(super) object: usize,
    pub(super) format: Format,
    pub(super) pattern: Pattern,
    /// Bytes of one read, except for random reads.
    pub(super) size: usize,
    /// How often it opens and reads the file.
    pub(super) passes: u64,
}

impl Object {
    fn row_width(columns: usize) -> u64 {
        4 + 4 * columns as u64
    }

    /// The bytes to download.
    pub(super) fn len(&self) -> u64 {
        match *self {
            Self::Original { len } => len,
            Self::Table { columns, rows } => Self::row_width(columns) * rows,
        }
    }

    /// The bytes that one read at a random place may cost beyond its own: a block at
    /// each end.
    pub(super) fn unit(&self) -> u64 {
        match *self {
            Self::Original { .. } => 2 * (128 << 10),
            Self::Table { columns, rows } => 2 * Self::row_width(columns) * rows.min(4096),
        }
    }
}

impl Format {
    /// The path in the mount.
    pub(super) fn path(self, id: ObjectId) -> String {
        match self {
            Self::Original => format!("objects/{id}.bin"),
            Self::Csv => format!("objects/{id}.csv"),
            Self::Cpb => format!("dataAppStorage/asciiAtcProductTimeSer/{id}.cpb"),
        }
    }
}

impl Settings {
    pub(super) fn from_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut pick = |choices: &[u64]| choices[dice.roll(choices.len())];
        let disk = pick(&[20, 24, 32, 48, 64, 100, 200, 400]);
        let filled = pick(&[0, 0, 30, 60, 80, 90, 95, 97, 99]);
        let cache = pick(&[0, 0, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 1024]);
        let memory = pick(&[8, 8, 12, 16, 32, 64, 128, 256]);
        let round_trip = pick(&[0, 0, 0, 5, 20]);
        let objects: Vec<Object> = (0..pick(&[1, 1, 2]))
            .map(|_| {
                if pick(&[0, 0, 0, 1, 1]) == 0 {
                    Object::Original {
                        len: pick(&[5, 8, 12, 16, 24, 33]) * MIB + pick(&[0, 1, 70_000, 500_001]),
                    }
                } else {
                    let columns = pick(&[2, 7, 7, 30, 120]);
                    let len = pick(&[2, 4, 6, 9, 12]) * MIB;
                    Object::Table {
                        columns: usize::try_from(columns).unwrap(),
                        rows: len / (4 + 4 * columns) + pick(&[0, 1, 777]),
                    }
                }
            })
            .collect();
        let readers = (0..pick(&[1, 1, 2, 3]))
            .map(|number| {
                let object = match number {
                    0 => 0,
                    _ => usize::try_from(pick(&[0, 1])).unwrap() % objects.len(),
                };
                let is_csv = pick(&[0, 1, 1]) == 1;
                let format = match objects[object] {
                    Object::Original { .. } => Format::Original,
                    Object::Table { .. } if is_csv => Format::Csv,
                    Object::Table { .. } => Format::Cpb,
                };
                let pattern = match pick(&[0, 0, 0, 1, 1, 2, 3, 3, 4, 4, 4, 5, 6]) {
                    0 => Pattern::Forward,
                    1 => Pattern::Backward,
                    2 => Pattern::Strided,
                    3 => Pattern::Jumping,
                    4 => Pattern::Random,
                    5 => Pattern::Head,
                    _ => Pattern::Tail,
                };
                let size = match pattern {
                    Pattern::Backward => 128 << 10,
                    Pattern::Strided => pick(&[64 << 10, 128 << 10]),
                    _ => pick(&[8 << 10, 64 << 10, 128 << 10, 1 << 20]),
                };
                Reader {
                    object,
                    format,
                    pattern,
                    size: usize::try_from(size).unwrap(),
                    passes: pick(&[1, 1, 1, 2]),
                }
            })
            .collect();
        Self {
            seed,
            disk,
            filled,
            cache: Some(cache).filter(|&cache| cache > 0),
            memory,
            round_trip,
            objects,
            readers,
        }
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            disk,
            filled,
            memory,
            round_trip,
            ..
        } = self;
        write!(f, "seed {seed}: disk of {disk} MiB, {filled} % taken, ")?;
        match self.cache {
            Some(cache) => write!(f, "--cache-size={cache}M ")?,
            None => write!(f, "default cache size ")?,
        }
        write!(f, "--memory={memory}M, round trip {round_trip} ms")?;
        for (number, object) in self.objects.iter().enumerate() {
            write!(
                f,
                "\n  object {number}: {object:?}, {} KiB",
                object.len() >> 10
            )?;
        }
        for (number, reader) in self.readers.iter().enumerate() {
            let Reader {
                object,
                format,
                pattern,
                size,
                passes,
            } = reader;
            write!(
                f,
                "\n  reader {number}: {pattern:?} through {format:?} of object {object}, \
                {} KiB a read, {passes} passes",
                size >> 10
            )?;
        }
        Ok(())
    }
}
