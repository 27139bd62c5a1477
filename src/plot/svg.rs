//! Pictures as SVG.

use std::fmt::Write as _;

use icos_portal::is_terminal_command;

use super::picture::{Anchor, Colour, Picture, Shape};

fn hex(Colour([red, green, blue]): Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

impl Picture {
    /// The picture as SVG, with texts as text.
    pub(super) fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" role=\"img\">\n\
             <title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
            escaped(&self.description)
        );
        for shape in &self.shapes {
            write_shape(&mut svg, shape);
        }
        svg.push_str("</svg>\n");
        svg
    }
}

fn write_shape(svg: &mut String, shape: &Shape) {
    let _ = match shape {
        Shape::Line {
            points,
            colour,
            width,
        } => {
            let mut path = String::new();
            for (number, (x, y)) in points.iter().enumerate() {
                let command = if number == 0 { 'M' } else { 'L' };
                let _ = write!(path, "{command}{x:.1} {y:.1}");
            }
            if points.len() == 1 {
                // A line of no length is not drawn everywhere.
                path.push_str("h0.1");
            }
            writeln!(
                svg,
                "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{width}\" \
                 stroke-linejoin=\"round\" stroke-linecap=\"round\"/>",
                hex(*colour)
            )
        }
        Shape::Dot {
            at: (x, y),
            radius,
            colour,
            title,
        } => writeln!(
            svg,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" fill=\"{}\"><title>{}</title></circle>",
            hex(*colour),
            escaped(title)
        ),
        Shape::Text {
            at: (x, y),
            text,
            size,
            anchor,
            colour,
            is_bold,
        } => {
            let anchor = match anchor {
                Anchor::Start => "start",
                Anchor::Middle => "middle",
                Anchor::End => "end",
            };
            let weight = if *is_bold {
                " font-weight=\"bold\""
            } else {
                ""
            };
            writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" text-anchor=\"{anchor}\" \
                 fill=\"{}\"{weight}>{}</text>",
                hex(*colour),
                escaped(text)
            )
        }
    };
}

/// `text` without characters that have a meaning in XML.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if is_terminal_command(c) => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_written_and_texts_escaped() {
        let mut picture = Picture::new(30.0, 20.0, "a <b>".to_owned());
        picture.line(vec![(1.0, 2.0), (3.0, 4.55)], Colour::BLACK, 1.5);
        picture.line(vec![(1.0, 2.0)], Colour::GREY, 2.0);
        picture.text(
            (5.0, 6.0),
            "x & \"y\"",
            (10.0, Anchor::End),
            Colour::PALE,
            99.0,
        );
        picture.shapes.push(Shape::Dot {
            at: (7.0, 8.0),
            radius: 4.0,
            colour: Colour([255, 0, 1]),
            title: "A&B".to_owned(),
        });
        let svg = picture.svg();
        for part in [
            "viewBox=\"0 0 30 20\"",
            "<title>a &lt;b&gt;</title>",
            "d=\"M1.0 2.0L3.0 4.5\"",
            "d=\"M1.0 2.0h0.1\"",
            "text-anchor=\"end\" fill=\"#dddddd\">x &amp; &quot;y&quot;</text>",
            "fill=\"#ff0001\"><title>A&amp;B</title>",
        ] {
            assert!(svg.contains(part), "no {part} in\n{svg}");
        }
    }
}
