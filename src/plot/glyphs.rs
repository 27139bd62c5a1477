//! Text as strokes, for pictures of pixels.
//!
//! `glyphs.txt` has the printable ASCII characters, a line each from the space on. They
//! are those of the Hershey Fonts ("Roman Simplex"), which were originally created by
//! Dr. A. V. Hershey while working at the U. S. National Bureau of Standards. The format
//! of the font data was originally created by James Hurt, Cognition, Inc., 900
//! Technology Park Drive, Billerica, MA 01821 (mit-eddie!ci-dandelion!hurt). A line has
//! the left and the right edge, then positions in strokes that ` R` separates; each
//! number is a character, counted from `R`.
//!
//! Further characters are made of these: superscripts, letters with accents, signs of
//! units. Others are a box.

const GLYPHS: &str = include_str!("glyphs.txt");
/// The rows of the top of capital letters and of the baseline.
const TOP: f64 = -12.0;
const BASELINE: f64 = 9.0;
/// The height of capital letters, in parts of the size of the font.
const CAPITALS: f64 = 0.71;
/// The letters are narrower than drawn by Hershey, as those of usual fonts are.
const NARROW: f64 = 0.86;

/// The width of a hyphen, in parts of a dash.
const HYPHEN: f64 = 0.6;

/// Connected lines.
pub(super) type Stroke = Vec<(f64, f64)>;

/// How a character is drawn.
struct Glyph {
    /// The character of the font, or `None` for a box.
    base: Option<char>,
    /// The size in parts of the font's, and how far it is raised, in the units of the
    /// font.
    size: f64,
    raised: f64,
    /// A stroke added to it, in the units of the font.
    added: &'static [(f64, f64)],
}

impl Glyph {
    fn of(character: char) -> Self {
        let plain = |base| Self {
            base: Some(base),
            size: 1.0,
            raised: 0.0,
            added: &[],
        };
        let raised = |base| Self {
            size: 0.62,
            raised: 9.0,
            ..plain(base)
        };
        let lowered = |base| Self {
            size: 0.62,
            raised: -3.0,
            ..plain(base)
        };
        match character {
            // The font has them above its baseline.
            '.' | ',' => Self {
                raised: -3.0,
                ..plain(character)
            },
            ' '..='~' => plain(character),
            '\u{a0}' => plain(' '),
            // A tail at the left of a u.
            '\u{b5}' | '\u{3bc}' => Self {
                added: &[(-5.0, 5.0), (-6.0, 16.0)],
                ..plain('u')
            },
            '\u{b0}' => raised('o'),
            '\u{b9}' => raised('1'),
            '\u{b2}' => raised('2'),
            '\u{b3}' => raised('3'),
            '\u{2070}' => raised('0'),
            '\u{207b}' => raised('-'),
            '\u{207a}' => raised('+'),
            '\u{2074}'..='\u{2079}' => raised(digit(character as u32 - 0x2070)),
            '\u{2080}'..='\u{2089}' => lowered(digit(character as u32 - 0x2080)),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => plain('-'),
            '\u{b7}' | '\u{22c5}' => Self {
                raised: 6.0,
                ..plain('.')
            },
            '\u{d7}' => plain('x'),
            '\u{2018}' | '\u{2019}' => plain('\''),
            '\u{201c}' | '\u{201d}' => plain('"'),
            '\u{c0}'..='\u{c6}' => plain('A'),
            '\u{c7}' => plain('C'),
            '\u{c8}'..='\u{cb}' => plain('E'),
            '\u{cc}'..='\u{cf}' => plain('I'),
            '\u{d1}' => plain('N'),
            '\u{d2}'..='\u{d6}' | '\u{d8}' => plain('O'),
            '\u{d9}'..='\u{dc}' => plain('U'),
            '\u{df}' => plain('s'),
            '\u{e0}'..='\u{e6}' => plain('a'),
            '\u{e7}' => plain('c'),
            '\u{e8}'..='\u{eb}' => plain('e'),
            '\u{ec}'..='\u{ef}' => plain('i'),
            '\u{f1}' => plain('n'),
            '\u{f2}'..='\u{f6}' | '\u{f8}' => plain('o'),
            '\u{f9}'..='\u{fc}' => plain('u'),
            '\u{2026}' => Self {
                base: None,
                ..plain(' ')
            },
            _ => Self {
                base: None,
                added: &[(0.0, 0.0)],
                ..plain(' ')
            },
        }
    }
}

fn digit(number: u32) -> char {
    char::from_digit(number, 10).unwrap_or('0')
}

/// The positions in a line of the font: the edges, and the strokes.
fn data(base: char) -> (f64, f64, Vec<Stroke>) {
    let number = (base as usize).saturating_sub(0x20);
    let line = GLYPHS.lines().nth(number).unwrap_or("JZ").as_bytes();
    let value = |byte: u8| f64::from(byte) - f64::from(b'R');
    let (edges, points) = line.split_at(2.min(line.len()));
    let mut strokes: Vec<Stroke> = vec![Vec::new()];
    for point in points.chunks_exact(2) {
        match (point, strokes.last_mut()) {
            (b" R", _) => strokes.push(Vec::new()),
            (_, Some(stroke)) => stroke.push((value(point[0]), value(point[1]))),
            (_, None) => {}
        }
    }
    strokes.retain(|stroke| !stroke.is_empty());
    (
        edges.first().map_or(-8.0, |byte| value(*byte)),
        edges.get(1).map_or(8.0, |byte| value(*byte)),
        strokes,
    )
}

/// The strokes of a character from the left edge on, on the baseline, in the units of the
/// font, and its width.
fn drawn(character: char) -> (Vec<Stroke>, f64) {
    if character == '\u{2026}' {
        let (strokes, width) = drawn('.');
        let moved = |by: f64| {
            let strokes = strokes.iter();
            let points = strokes.map(move |s| s.iter().map(|(x, y)| (x + by, *y)).collect());
            points.collect::<Vec<Stroke>>()
        };
        return ([0.0, width, 2.0 * width].map(moved).concat(), 3.0 * width);
    }
    let glyph = Glyph::of(character);
    let Some(base) = glyph.base else {
        let square = vec![
            (3.0, 0.0),
            (13.0, 0.0),
            (13.0, -20.0),
            (3.0, -20.0),
            (3.0, 0.0),
        ];
        return (vec![square], 16.0);
    };
    let (left, right, mut strokes) = data(base);
    // The font has one sign for a hyphen and a dash.
    let narrower = if base == '-' { HYPHEN } else { 1.0 };
    strokes.extend((!glyph.added.is_empty()).then(|| glyph.added.to_vec()));
    for (x, y) in strokes.iter_mut().flatten() {
        *x = (*x - left) * glyph.size * narrower;
        *y = (*y - BASELINE) * glyph.size - glyph.raised;
    }
    (strokes, (right - left) * glyph.size * narrower)
}

fn scale(size: f64) -> f64 {
    size * CAPITALS / (BASELINE - TOP)
}

/// The width of `text` in a font of this size.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let widths = text.chars().map(|character| drawn(character).1);
    widths.sum::<f64>() * scale(size) * NARROW
}

/// The strokes of `text` from `start` on its baseline.
pub(super) fn strokes(text: &str, size: f64, start: (f64, f64)) -> Vec<Stroke> {
    let scale = scale(size);
    let mut x = start.0;
    let mut found = Vec::new();
    for character in text.chars() {
        let (strokes, width) = drawn(character);
        found.extend(strokes.into_iter().map(|stroke| {
            let place = |(a, b): (f64, f64)| (x + a * scale * NARROW, start.1 + b * scale);
            stroke.into_iter().map(place).collect::<Stroke>()
        }));
        x += width * scale * NARROW;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_strokes_within_its_line() {
        assert_eq!(GLYPHS.lines().count(), 96);
        let signs =
            ('!'..='~').chain("\u{b5}\u{b0}\u{b2}\u{207b}\u{2082}\u{e9}\u{2026}\u{4e2d}".chars());
        for character in signs {
            let strokes = strokes(&character.to_string(), 20.0, (0.0, 0.0));
            assert!(!strokes.is_empty(), "{character}");
            let width = width(&character.to_string(), 20.0);
            for (x, y) in strokes.into_iter().flatten() {
                assert!(
                    (-2.0..=width + 2.0).contains(&x),
                    "{character}: {x} of {width}"
                );
                assert!((-20.0..=8.0).contains(&y), "{character}: {y}");
            }
        }
        assert!(strokes(" ", 20.0, (0.0, 0.0)).is_empty());
    }

    #[test]
    fn width_is_the_sum_of_the_characters() {
        let sum = width("co2 ", 20.0) + width("[ppm]", 20.0);
        assert!((width("co2 [ppm]", 20.0) - sum).abs() < 1e-9);
        assert!((width("0123456789", 20.0) - 118.0).abs() < 20.0);
    }
}
