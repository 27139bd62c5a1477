//! Dots in a terminal: eight in each character, as braille.

/// A grid of dots.
#[derive(Debug)]
pub(super) struct DotCanvas {
    width: usize,
    height: usize,
    /// Braille patterns, row by row.
    cells: Vec<u8>,
}

/// The bits of the dots of a character, by row and column.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

impl DotCanvas {
    /// A canvas of `width` by `height` characters.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            cells: vec![0; width * height],
        }
    }

    /// The number of dots in a row and in a column.
    pub(super) fn dots(&self) -> (usize, usize) {
        (self.width * 2, self.height * 4)
    }

    /// Sets the dot in column `x` and row `y`, counted from the top left.
    pub(super) fn set(&mut self, x: usize, y: usize) {
        if x < self.width * 2 && y < self.height * 4 {
            self.cells[y / 4 * self.width + x / 2] |= DOTS[y % 4][x % 2];
        }
    }

    /// Sets the dots on a line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let steps = (to.0 - from.0)
            .abs()
            .max((to.1 - from.1).abs())
            .ceil()
            .clamp(1.0, 10_000.0);
        for step in 0..=steps as u32 {
            let part = f64::from(step) / steps;
            let x = from.0 + (to.0 - from.0) * part;
            let y = from.1 + (to.1 - from.1) * part;
            if x >= 0.0 && y >= 0.0 {
                self.set(x.round() as usize, y.round() as usize);
            }
        }
    }

    /// The rows as text.
    pub(super) fn rows(&self) -> impl Iterator<Item = String> + '_ {
        self.cells.chunks(self.width.max(1)).map(|row| {
            let braille = |cell: &u8| match cell {
                0 => ' ',
                cell => char::from_u32(0x2800 + u32::from(*cell)).unwrap_or(' '),
            };
            row.iter().map(braille).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_where_they_are_set_and_lines_are_connected() {
        let mut canvas = DotCanvas::new(2, 1);
        canvas.set(0, 0);
        canvas.set(3, 3);
        canvas.set(99, 99);
        assert_eq!(canvas.rows().collect::<Vec<_>>(), ["\u{2801}\u{2880}"]);
        let mut canvas = DotCanvas::new(2, 1);
        canvas.line((0.0, 0.0), (3.0, 3.0));
        canvas.line((f64::NAN, 0.0), (1.0, -5.0));
        assert_eq!(canvas.rows().next().unwrap().chars().count(), 2);
    }
}
