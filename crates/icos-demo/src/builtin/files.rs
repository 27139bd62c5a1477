//! The built-in objects without tables, the unavailable objects, and the
//! collections.

use std::io::{Cursor, Write as _};

use bytes::Bytes;

use super::builder::RepositoryBuilder;
use super::netcdf;
use crate::content::OriginalContent;
use crate::object::{DemoCollection, DemoObject, Kind};
use crate::random::mix;
use icos_portal::ObjectId;

pub(super) fn add(builder: &mut RepositoryBuilder) {
    let field = field(builder);
    let archive = archive(builder);
    unavailable(builder);
    collections(builder, &[field, archive]);
}

/// An object without a table.
fn file(name: &str, kind: Kind, bytes: impl Into<Bytes>) -> DemoObject {
    DemoObject::new(name, kind, OriginalContent::Bytes(bytes.into()))
}

/// A netCDF file.
fn field(builder: &mut RepositoryBuilder) -> ObjectId {
    let kind = Kind::Field {
        spec: "inversionProduct",
        title: "Monthly CO2 fluxes of the demo inversion",
        time: ["2010-01-01T00:00:00Z", "2022-12-31T00:00:00Z"],
    };
    let fluxes = netcdf::fluxes(mix(builder.seed));
    let mut item = file("demo_inversion_2023.nc", kind, fluxes);
    item.licence = Some("https://creativecommons.org/publicdomain/zero/1.0/");
    builder.add(item)
}

/// A ZIP file with folders and odd names, and a document.
fn archive(builder: &mut RepositoryBuilder) -> ObjectId {
    let large: Vec<u8> = (0..200_000_u64)
        .flat_map(|n| mix(n ^ builder.seed).to_be_bytes())
        .collect();
    let bytes = zip_of(&[
        (
            "readme.txt",
            b"Supplementary files of the demo inversion.\n",
        ),
        ("figures/", b""),
        ("figures/fig 1 (final).csv", b"x,y\n1,2\n"),
        ("figures/K\u{F6}ln+100%.txt", "K\u{F6}ln\n".as_bytes()),
        ("data/large.bin", &large),
        ("data/empty.txt", b""),
    ]);
    let kind = Kind::Field {
        spec: "arbitraryZip",
        title: "Supplementary files of the demo inversion",
        time: ["2010-01-01T00:00:00Z", "2022-12-31T00:00:00Z"],
    };
    let id = builder.add(file("demo_inversion_supplement.zip", kind, bytes));
    let kind = Kind::Document {
        title: "How the demo repository was made",
    };
    builder.add(file(
        "demo handbook.pdf",
        kind,
        &b"%PDF-1.4\n% The demo repository was made in code.\n%%EOF\n"[..],
    ));
    id
}

/// Objects that the data service refuses, each for another reason, and objects
/// with unusual names or versions.
fn unavailable(builder: &mut RepositoryBuilder) {
    let series = |spec, station| Kind::Series {
        spec,
        station,
        time: ["2023-05-01T00:00:00Z", "2023-05-02T00:00:00Z"],
        height: None,
    };
    let raw = |name: &str| format!("raw data of {name}\n").into_bytes();

    let name = "SE-Htm_EC_202305010000_L02_F01.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    builder.add(file(name, kind, raw(name)));

    let name = "HTM_raw_20230501.zip";
    let kind = series("atcPicarroL0DataObject", "AS_HTM");
    builder.add(file(name, kind, zip_of(&[("raw.dat", &raw(name))])));

    let name = "SE-Htm_EC_20991231.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    let mut moratorium = file(name, kind, raw(name));
    moratorium.published = Some("2099-12-31T00:00:00Z");
    builder.add(moratorium);

    let name = "SE-Htm_EC_not_uploaded.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    let mut unfinished = file(name, kind, raw(name));
    unfinished.published = None;
    builder.add(unfinished);

    let name = "SE-Htm_EC_elsewhere.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    let mut elsewhere = file(name, kind, raw(name));
    elsewhere.elsewhere = Some("https://data.example.org/elsewhere.csv");
    builder.add(elsewhere);

    let name = "SE-Htm_EC_lost.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    let mut lost = file(name, kind, raw(name));
    lost.lost = true;
    builder.add(lost);

    let name = "M\u{E4}tdata \"SE-Htm\"; 100%.csv";
    let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
    let mut odd = file(name, kind, raw(name));
    odd.submitted = "2024-06-01T00:00:00Z";
    let odd = builder.add(odd);

    // An object with two next versions.
    for part in ["part 1", "part 2"] {
        let name = format!("SE-Htm_{part}.csv");
        let kind = series("etcRawSeriesCsv", "ES_SE-Htm");
        let mut next = file(&name, kind, raw(&name));
        next.previous = vec![odd];
        builder.add(next);
    }
}

/// A collection of all objects, with a collection of the atmosphere objects
/// inside, which has an older version.
fn collections(builder: &mut RepositoryBuilder, others: &[ObjectId]) {
    let mut atmosphere = DemoCollection {
        title: "Demo Atmosphere Release 2023",
        objects: builder.atmosphere[1..].to_vec(),
        collections: Vec::new(),
        previous: None,
    };
    let previous = builder.add_collection(&atmosphere);
    atmosphere = DemoCollection {
        title: "Demo Atmosphere Release 2024",
        objects: builder.atmosphere.clone(),
        previous: Some(previous),
        ..atmosphere
    };
    let inner = builder.add_collection(&atmosphere);
    let objects = [&builder.ecosystem, &builder.ocean, others].map(<[_]>::to_vec);
    builder.add_collection(&DemoCollection {
        title: "Demo Release 2024",
        objects: objects.concat(),
        collections: vec![inner],
        previous: None,
    });
}

/// A ZIP archive of these entries; a name that ends in `/` is a folder.
pub(super) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let memory = "a vector takes what is written";
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(1))
        .last_modified_time(zip::DateTime::default());
    for (name, bytes) in entries {
        if name.ends_with('/') {
            archive.add_directory(*name, options).expect(memory);
        } else {
            archive.start_file(*name, options).expect(memory);
            archive.write_all(bytes).expect(memory);
        }
    }
    archive.finish().expect(memory).into_inner()
}
