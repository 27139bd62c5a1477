//! Writes a netCDF file in the classic format with 64-bit offsets, by the
//! `NetCDF` user's guide ("File Format Specifications").

use crate::random::mix;

const MONTHS: u32 = 156;
const LATITUDES: u32 = 36;
const LONGITUDES: u32 = 144;

/// Tags of the format.
const DIMENSIONS: u32 = 10;
const VARIABLES: u32 = 11;
const ATTRIBUTES: u32 = 12;
const TEXT: u32 = 2;
const FLOAT: u32 = 5;

/// A variable: its name, the indices of its dimensions, its unit, its values.
struct NetcdfVariable {
    name: &'static str,
    dimensions: &'static [u32],
    unit: &'static str,
    values: Vec<f32>,
}

/// Fluxes by month, latitude and longitude, a little over 3 MiB.
pub(super) fn fluxes(seed: u64) -> Vec<u8> {
    // Cell numbers and noise of 16 bits are exact as floats.
    #[allow(clippy::cast_precision_loss)]
    let numbered = |count: u32, value: &dyn Fn(f32) -> f32| -> Vec<f32> {
        (0..count).map(|number| value(number as f32)).collect()
    };
    let flux = (0..MONTHS * LATITUDES * LONGITUDES).map(|cell| {
        let noise = mix(seed ^ u64::from(cell)) & 0xFFFF;
        f32::from(u16::try_from(noise).unwrap_or(0)) / 1024.0 - 32.0
    });
    write(&[
        NetcdfVariable {
            name: "time",
            dimensions: &[0],
            unit: "days since 2010-01-01",
            values: numbered(MONTHS, &|month| (month * 30.4375).floor()),
        },
        NetcdfVariable {
            name: "lat",
            dimensions: &[1],
            unit: "degrees_north",
            values: numbered(LATITUDES, &|row| 33.5 + row),
        },
        NetcdfVariable {
            name: "lon",
            dimensions: &[2],
            unit: "degrees_east",
            values: numbered(LONGITUDES, &|column| -14.75 + column / 2.0),
        },
        NetcdfVariable {
            name: "co2flux",
            dimensions: &[0, 1, 2],
            unit: "umol m-2 s-1",
            values: flux.collect(),
        },
    ])
}

fn write(variables: &[NetcdfVariable]) -> Vec<u8> {
    // The header has the same length for any offsets, so they follow from it.
    let head = header(variables, 0).len() as u64;
    let mut file = header(variables, head);
    for variable in variables {
        let values = variable.values.iter();
        file.extend(values.flat_map(|value| value.to_be_bytes()));
    }
    file
}

/// The header. `place` is the offset of the first values.
fn header(variables: &[NetcdfVariable], mut place: u64) -> Vec<u8> {
    let mut head = b"CDF\x02\0\0\0\0".to_vec();
    let dimensions = [("time", MONTHS), ("lat", LATITUDES), ("lon", LONGITUDES)];
    words(&mut head, &[DIMENSIONS, 3]);
    for (name, length) in dimensions {
        text(&mut head, name);
        words(&mut head, &[length]);
    }
    words(&mut head, &[ATTRIBUTES, 1]);
    attribute(
        &mut head,
        "title",
        "Monthly CO2 fluxes of the demo inversion",
    );
    words(&mut head, &[VARIABLES, len(variables.len())]);
    for variable in variables {
        text(&mut head, variable.name);
        words(&mut head, &[len(variable.dimensions.len())]);
        words(&mut head, variable.dimensions);
        words(&mut head, &[ATTRIBUTES, 1]);
        attribute(&mut head, "units", variable.unit);
        let bytes = len(variable.values.len() * size_of::<f32>());
        words(&mut head, &[FLOAT, bytes]);
        head.extend(place.to_be_bytes());
        place += u64::from(bytes);
    }
    head
}

fn attribute(head: &mut Vec<u8>, name: &str, value: &str) {
    text(head, name);
    words(head, &[TEXT]);
    text(head, value);
}

/// A text with its length before it, padded to four bytes.
fn text(head: &mut Vec<u8>, text: &str) {
    words(head, &[len(text.len())]);
    head.extend(text.bytes());
    head.resize(head.len().next_multiple_of(4), 0);
}

fn words(head: &mut Vec<u8>, words: &[u32]) {
    head.extend(words.iter().flat_map(|word| word.to_be_bytes()));
}

fn len(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
