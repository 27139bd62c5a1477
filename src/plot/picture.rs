//! A picture: lines, dots and texts on white, with its size in pixels.

use std::path::Path;

use icos_portal::is_terminal_command;

use super::glyphs;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Colour(pub(super) [u8; 3]);

impl Colour {
    pub(super) const BLACK: Self = Self([0x22; 3]);
    pub(super) const GREY: Self = Self([0x66; 3]);
    pub(super) const PALE: Self = Self([0xdd; 3]);
}

/// Where a text is, relative to its position.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A part of a picture. Positions are in pixels from the top left.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Connected lines; a single point is a dot of the width.
    Line {
        points: Vec<(f64, f64)>,
        colour: Colour,
        width: f64,
    },
    /// A filled circle, with a text that a browser shows when it is pointed at.
    Dot {
        at: (f64, f64),
        radius: f64,
        colour: Colour,
        title: String,
    },
    /// A line of text; `at` is on its baseline.
    Text {
        at: (f64, f64),
        text: String,
        size: f64,
        anchor: Anchor,
        colour: Colour,
        is_bold: bool,
    },
}

/// The format of a picture's file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum PictureFormat {
    Svg,
    Png,
}

impl PictureFormat {
    /// The format of the file at `path`, by the ending of its name.
    pub(crate) fn of_path(path: &Path) -> Option<Self> {
        match path.extension()?.to_ascii_lowercase().to_str()? {
            "svg" => Some(Self::Svg),
            "png" => Some(Self::Png),
            _ => None,
        }
    }
}

/// A picture.
#[derive(Clone, Debug)]
pub(crate) struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    /// What is shown, for people who cannot see it.
    pub(super) description: String,
    pub(super) shapes: Vec<Shape>,
}

impl Picture {
    pub(super) fn new(width: f64, height: f64, description: String) -> Self {
        Self {
            width,
            height,
            description,
            shapes: Vec::new(),
        }
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, colour: Colour, width: f64) {
        self.shapes.push(Shape::Line {
            points,
            colour,
            width,
        });
    }

    /// Adds a text of up to `room` pixels, shortened to that.
    pub(super) fn text(
        &mut self,
        at: (f64, f64),
        text: &str,
        (size, anchor): (f64, Anchor),
        colour: Colour,
        room: f64,
    ) {
        self.shapes.push(Shape::Text {
            at,
            text: shortened(text, size, room),
            size,
            anchor,
            colour,
            is_bold: false,
        });
    }

    /// As [`Picture::text`], for a heading.
    pub(super) fn heading(&mut self, at: (f64, f64), text: &str, size: f64, room: f64) {
        self.shapes.push(Shape::Text {
            at,
            text: shortened(text, size, room),
            size,
            anchor: Anchor::Start,
            colour: Colour::BLACK,
            is_bold: true,
        });
    }

    /// Writes the picture as `format`.
    pub(crate) fn write(&self, format: PictureFormat) -> Vec<u8> {
        match format {
            PictureFormat::Svg => self.svg().into_bytes(),
            PictureFormat::Png => self.png(),
        }
    }
}

/// `text` without control characters, cut at an ellipsis to a width of `room` pixels.
fn shortened(text: &str, size: f64, room: f64) -> String {
    let clean = |c: char| if is_terminal_command(c) { ' ' } else { c };
    let mut text: String = text.chars().map(clean).collect();
    let mut is_cut = false;
    while glyphs::width(&text, size) > room && text.pop().is_some() {
        is_cut = true;
    }
    if is_cut {
        text.pop();
        text.push('\u{2026}');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_to_the_room_they_have() {
        let long = "W".repeat(300);
        let cut = shortened(&long, 20.0, 400.0);
        assert!(
            cut.ends_with('\u{2026}') && cut.chars().count() > 15,
            "{cut}"
        );
        assert!(glyphs::width(&cut, 20.0) <= 400.0);
        assert_eq!(shortened("a\nb\u{1b}", 20.0, 400.0), "a b ");
        assert_eq!(shortened("abc", 20.0, 0.0), "\u{2026}");
    }

    #[test]
    fn format_is_that_of_the_ending() {
        for (name, format) in [
            ("a.svg", Some(PictureFormat::Svg)),
            ("a.b.PNG", Some(PictureFormat::Png)),
            ("a.jpg", None),
            ("png", None),
        ] {
            assert_eq!(PictureFormat::of_path(Path::new(name)), format, "{name}");
        }
    }
}
