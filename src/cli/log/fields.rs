//! How events and spans are written: control characters are escaped, whatever their text is
//! and wherever it is from.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use icos_portal::is_terminal_command;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;

/// Writes fields as `name=value`, the message first and plain, on one line.
#[derive(Clone, Copy, Debug)]
pub(super) struct EscapedFields;

impl<'writer> FormatFields<'writer> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter {
            writer,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl FieldWriter<'_> {
    fn write(&mut self, field: &Field, value: &dyn Debug) -> fmt::Result {
        let name = field.name();
        // Of the crate `log`: where the event is from, which the line says already.
        if name.starts_with("log.") {
            return Ok(());
        }
        if !self.is_first {
            self.writer.write_char(' ')?;
        }
        self.is_first = false;
        if name != "message" {
            let name = name.strip_prefix("r#").unwrap_or(name);
            // Slanted, and pale.
            if self.writer.has_ansi_escapes() {
                write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?;
            } else {
                write!(self.writer, "{name}=")?;
            }
        }
        write!(EscapingWriter(&mut self.writer), "{value:?}")
    }
}

impl Visit for FieldWriter<'_> {
    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{error}"));
        let mut source = error.source();
        while let Some(error) = source {
            if self.result.is_ok() {
                self.result = write!(EscapingWriter(&mut self.writer), ": {error}");
            }
            source = error.source();
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if self.result.is_ok() {
            self.result = self.write(field, value);
        }
    }
}

/// Escapes characters that a terminal takes for commands, and ends of lines, which would
/// forge lines of the log.
struct EscapingWriter<'a, 'writer>(&'a mut Writer<'writer>);

impl Write for EscapingWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_terminal_command(*c)) {
            self.0.write_str(&rest[..at])?;
            match c {
                '\t' | '\n' | '\r' => write!(self.0, "{}", c.escape_default())?,
                c => write!(self.0, "{}", c.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What is logged with `text` in every place.
    fn logged(text: &str, colours: bool) -> String {
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(written.clone())
            .with_ansi(colours)
            .fmt_fields(EscapedFields)
            .without_time()
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let error: Box<dyn Error> = io::Error::other(io::Error::other(text.to_owned())).into();
            let span = tracing::warn_span!("span", outer = %text, late = tracing::field::Empty);
            span.record("late", tracing::field::display(text));
            let _entered = span.enter();
            tracing::warn!(shown = %text, debug = ?text, plain = text, error = &*error, "a {text} b");
        });
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn log_line_has_its_message_and_its_fields() {
        let error = "error=x";
        let expected = format!(
            " WARN span{{outer=x late=x}}: {}: a x b shown=x debug=\"x\" plain=\"x\" {error}\n",
            module_path!()
        );
        let line = logged("x", false);
        // The cause of an error follows it.
        assert_eq!(line.replace("error=x: x", error), expected);
        assert!(logged("x", true).contains("\x1b[3mshown\x1b[0m\x1b[2m=\x1b[0mx"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Regression: texts of a store gave commands to the terminal and forged lines.
        #[test]
        fn text_in_the_log_gives_no_command_and_forges_no_line(
            text in "([ -~]|[\\x00-\\x1f\\x7f-\\u{9f}]|[\u{202a}-\u{202e}\u{2028}]|\\PC){0,40}",
        ) {
            let is_command = |line: &str| line.trim_end_matches('\n').contains(is_terminal_command);
            let line = logged(&text, false);
            prop_assert!(!is_command(&line), "{line:?}");
            prop_assert_eq!(line.matches('\n').count(), 1);
            // The colours of the line itself are all that there is.
            let coloured = logged(&text, true);
            let escapes = |line: &str| line.matches('\x1b').count();
            prop_assert_eq!(escapes(&coloured), escapes(&logged("x", true)));
            prop_assert!(!is_command(&coloured.replace('\x1b', "")), "{coloured:?}");
            prop_assert_eq!(coloured.matches('\n').count(), 1);
        }
    }
}
