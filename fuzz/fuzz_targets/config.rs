//! `config.toml`: existing settings with any values, and any text.

#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    settings: Vec<(u8, Value<'a>)>,
    text: &'a str,
}

/// The value of a setting.
#[derive(Arbitrary, Debug)]
enum Value<'a> {
    Text(&'a str),
    Texts(Vec<&'a str>),
    Number(i64),
    Real(f64),
    Switch(bool),
    Anything(&'a str),
}

impl Value<'_> {
    fn to_toml(&self) -> String {
        match self {
            Value::Text(text) => format!("'''{text}'''"),
            Value::Texts(texts) => {
                let all = texts.iter().map(|text| format!("'''{text}''',"));
                format!("[{}]", all.collect::<String>())
            }
            Value::Number(number) => number.to_string(),
            Value::Real(number) => format!("{number:?}"),
            Value::Switch(switch) => switch.to_string(),
            Value::Anything(text) => (*text).to_owned(),
        }
    }
}

fuzz_target!(|input: Input| {
    let settings = input.settings.iter().map(|(number, value)| (*number, value.to_toml()));
    icosfs::fuzzing::config(&settings.collect::<Vec<_>>(), input.text);
});
