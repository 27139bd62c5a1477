//! Media types of files, by their names.

/// The media type of a file called `name`.
pub(super) fn of(name: &str) -> &'static str {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension.to_ascii_lowercase().as_str() {
        "csv" => "text/csv; charset=utf-8",
        "tsv" | "tab" => "text/tab-separated-values",
        "txt" | "log" => "text/plain",
        "md" => "text/markdown; charset=utf-8",
        "json" | "geojson" => "application/json",
        "parquet" => "application/vnd.apache.parquet",
        "nc" | "nc4" | "cdf" => "application/x-netcdf",
        "h5" | "hdf5" => "application/x-hdf5",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "pdf" => "application/pdf",
        "xml" => "application/xml",
        "html" | "htm" => "text/html",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "tif" | "tiff" => "image/tiff",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        _ => "application/octet-stream",
    }
}

/// Whether a browser would run scripts in a file of this type. Their authors are not
/// trusted, so that such files are saved rather than shown.
pub(super) fn is_active(media_type: &str) -> bool {
    let kind = media_type.split(';').next().unwrap_or_default();
    matches!(
        kind,
        "text/html" | "image/svg+xml" | "application/xml" | "application/pdf"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_follows_from_the_last_extension() {
        for (name, expected) in [
            ("x.csv", "text/csv; charset=utf-8"),
            ("x.original.CSV.ZIP", "application/zip"),
            ("x.nc", "application/x-netcdf"),
            ("errors", "application/octet-stream"),
            ("x.", "application/octet-stream"),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
        assert!(is_active(of("a.html")) && is_active(of("a.svg")) && !is_active(of("a.csv")));
    }
}
