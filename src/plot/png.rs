//! Pictures as PNG: antialiased lines on a grid of pixels.

use std::io::Write as _;

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

use super::glyphs;
use super::picture::{Anchor, Colour, Picture, Shape};

/// The width of the strokes of text, in parts of the font's size.
const STROKE: f64 = 0.075;
const BOLD_STROKE: f64 = 0.115;

/// Pixels in RGB.
struct Raster {
    width: usize,
    height: usize,
    pixels: Vec<[u8; 3]>,
    /// How much of each pixel the present shape covers, of 255.
    coverage: Vec<u8>,
}

impl Raster {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            pixels: vec![[255; 3]; width * height],
            coverage: vec![0; width * height],
        }
    }

    /// The columns and rows within `radius` of a rectangle.
    fn around(
        &self,
        from: (f64, f64),
        to: (f64, f64),
        radius: f64,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let span = |a: f64, b: f64, end: usize| {
            let low = (a.min(b) - radius - 1.0).floor().max(0.0) as usize;
            let high = (a.max(b) + radius + 1.0).ceil().max(0.0) as usize;
            low.min(end)..high.min(end)
        };
        (
            span(from.0, to.0, self.width),
            span(from.1, to.1, self.height),
        )
    }

    /// Covers what is within `radius` of the line between two points.
    fn cover(&mut self, from: (f64, f64), to: (f64, f64), radius: f64) {
        if ![from.0, from.1, to.0, to.1]
            .iter()
            .all(|one| one.is_finite())
        {
            return;
        }
        let (columns, rows) = self.around(from, to, radius);
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let square = (dx * dx + dy * dy).max(f64::MIN_POSITIVE);
        for row in rows {
            let y = row as f64 + 0.5;
            for column in columns.clone() {
                let x = column as f64 + 0.5;
                let part = (((x - from.0) * dx + (y - from.1) * dy) / square).clamp(0.0, 1.0);
                let distance = (x - from.0 - part * dx).hypot(y - from.1 - part * dy);
                let covered = (radius + 0.5 - distance).clamp(0.0, 1.0);
                let known = &mut self.coverage[row * self.width + column];
                *known = (*known).max((covered * 255.0) as u8);
            }
        }
    }

    /// Paints what the lines cover, once wherever they cross.
    fn paint(&mut self, lines: &[Vec<(f64, f64)>], radius: f64, colour: Colour) {
        let mut bounds: Option<((f64, f64), (f64, f64))> = None;
        for line in lines {
            if let [only] = line[..] {
                self.cover(only, only, radius);
            }
            for pair in line.windows(2) {
                self.cover(pair[0], pair[1], radius);
            }
            for &(x, y) in line {
                bounds = Some(bounds.map_or(((x, y), (x, y)), |(low, high)| {
                    ((low.0.min(x), low.1.min(y)), (high.0.max(x), high.1.max(y)))
                }));
            }
        }
        let Some((low, high)) = bounds else {
            return;
        };
        let (columns, rows) = self.around(low, high, radius);
        for row in rows {
            for at in row * self.width + columns.start..row * self.width + columns.end {
                let covered = u32::from(std::mem::take(&mut self.coverage[at]));
                for (old, new) in self.pixels[at].iter_mut().zip(colour.0) {
                    let mixed = u32::from(*old) * (255 - covered) + u32::from(new) * covered;
                    *old = (mixed / 255) as u8;
                }
            }
        }
    }

    fn draw(&mut self, shape: &Shape) {
        match shape {
            Shape::Line {
                points,
                colour,
                width,
            } => self.paint(std::slice::from_ref(points), width / 2.0, *colour),
            Shape::Dot {
                at, radius, colour, ..
            } => self.paint(&[vec![*at]], *radius, *colour),
            Shape::Text {
                at,
                text,
                size,
                anchor,
                colour,
                is_bold,
            } => {
                let part = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => 0.5,
                    Anchor::End => 1.0,
                };
                let start = (at.0 - part * glyphs::width(text, *size), at.1);
                let stroke = if *is_bold { BOLD_STROKE } else { STROKE };
                let strokes = glyphs::strokes(text, *size, start);
                self.paint(&strokes, size * stroke / 2.0, *colour);
            }
        }
    }

    /// The file: the PNG specification, with the filter "sub" in each row.
    fn encode(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity((self.width * 3 + 1) * self.height);
        for row in self.pixels.chunks(self.width.max(1)) {
            rows.push(1);
            let mut before = [0; 3];
            for pixel in row {
                rows.extend(
                    pixel
                        .iter()
                        .zip(before)
                        .map(|(new, old)| new.wrapping_sub(old)),
                );
                before = *pixel;
            }
        }
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        // A vector takes everything.
        let _ = encoder.write_all(&rows);
        let packed = encoder.finish().unwrap_or_default();
        let mut header = Vec::new();
        for side in [self.width, self.height] {
            header.extend(u32::try_from(side).unwrap_or(0).to_be_bytes());
        }
        // Eight bits each of red, green and blue; not interlaced.
        header.extend([8, 2, 0, 0, 0]);
        let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [
            (b"IHDR", &header),
            (b"IDAT", &packed),
            (b"IEND", &Vec::new()),
        ] {
            let mut sum = Crc::new();
            sum.update(kind);
            sum.update(data);
            file.extend(u32::try_from(data.len()).unwrap_or(0).to_be_bytes());
            file.extend_from_slice(kind);
            file.extend_from_slice(data);
            file.extend(sum.sum().to_be_bytes());
        }
        file
    }
}

impl Picture {
    /// The picture as PNG.
    pub(super) fn png(&self) -> Vec<u8> {
        let mut raster = Raster::new(self.width.ceil() as usize, self.height.ceil() as usize);
        for shape in &self.shapes {
            raster.draw(shape);
        }
        raster.encode()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_where_they_are_drawn_and_nothing_outside_of_the_picture() {
        let mut raster = Raster::new(20, 10);
        let line = |points: &[(f64, f64)]| Shape::Line {
            points: points.to_vec(),
            colour: Colour([0, 0, 0]),
            width: 2.0,
        };
        raster.draw(&line(&[(2.0, 5.0), (18.0, 5.0)]));
        raster.draw(&line(&[(-50.0, -50.0), (900.0, f64::NAN), (4.0, 1e9)]));
        let at = |x: usize, y: usize| raster.pixels[y * 20 + x];
        assert_eq!((at(10, 4), at(10, 5)), ([0; 3], [0; 3]));
        assert_eq!((at(10, 1), at(10, 8)), ([255; 3], [255; 3]));
        assert!(raster.coverage.iter().all(|&covered| covered == 0));
    }

    #[test]
    fn file_has_the_pixels_of_the_picture() {
        let mut picture = Picture::new(40.0, 30.0, String::new());
        picture.text(
            (20.0, 20.0),
            "x",
            (12.0, Anchor::Middle),
            Colour::BLACK,
            40.0,
        );
        let png = picture.png();
        assert!(png.starts_with(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\x28\0\0\0\x1e\x08\x02"));
        let at = png.windows(4).position(|w| w == b"IDAT").unwrap();
        let mut rows = Vec::new();
        let mut decoder = flate2::write::ZlibDecoder::new(&mut rows);
        decoder.write_all(&png[at + 4..png.len() - 16]).unwrap();
        decoder.finish().unwrap();
        assert_eq!(rows.len(), (40 * 3 + 1) * 30);
        let dark = rows.iter().filter(|&&byte| byte != 0 && byte != 1).count();
        assert!(dark > 20, "{dark}");
    }
}
