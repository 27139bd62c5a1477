//! Units that UDUNITS understands, and CF standard names, for what the portal's
//! metadata call units and quantities.
//!
//! Only what is certain is translated. The portal's `C` in `kgC m-2` is carbon, but a
//! coulomb for UDUNITS, and its `N` in `mg N L-1` a newton: such units have no
//! translation.

/// Symbols that mean the same at the portal and in UDUNITS.
const SYMBOLS: [&str; 36] = [
    "1", "%", "m", "km", "cm", "mm", "nm", "s", "h", "day", "kg", "g", "mg", "ug", "K", "degC",
    "degree", "W", "mW", "J", "MJ", "Pa", "hPa", "kPa", "uatm", "mol", "mmol", "umol", "nmol", "L",
    "Bq", "V", "mV", "uS", "sr", "S",
];

/// The unit in the form of UDUNITS; `None` if the translation is not certain.
pub(super) fn udunits(unit: &str) -> Option<String> {
    let unit = unit
        .replace(['\u{b5}', '\u{3bc}'], "u")
        .replace("\u{b0}C", "degC")
        .replace('\u{b0}', "degree");
    match &*unit {
        "psu" => return Some("1".to_owned()),
        "per mil" => return Some("1e-3".to_owned()),
        "ppm" => return Some("1e-6".to_owned()),
        "ppb" => return Some("1e-9".to_owned()),
        _ => {}
    }
    let is_known = |factor: &str| {
        let exponent = factor.find(|c: char| c == '-' || c.is_ascii_digit());
        // `1` is a unit, not an exponent.
        let (symbol, exponent) =
            factor.split_at(exponent.filter(|&at| at > 0).unwrap_or(factor.len()));
        SYMBOLS.contains(&symbol) && (exponent.is_empty() || exponent.parse::<i8>().is_ok())
    };
    let mut factors = unit.split_whitespace().peekable();
    factors.peek()?;
    factors.all(is_known).then_some(unit)
}

/// A CF standard name for values that the portal describes by `description` and measures
/// in `unit`, already in the form of UDUNITS.
pub(super) fn standard_name(description: &str, unit: Option<&str>) -> Option<&'static str> {
    let description = description.to_lowercase();
    let (_, name, _) = STANDARD_NAMES
        .into_iter()
        .find(|(known, _, units)| *known == description && units.contains(&unit.unwrap_or("")))?;
    Some(name)
}

const FRACTION: &[&str] = &["umol mol-1", "nmol mol-1"];
const PRESSURE: &[&str] = &["hPa", "kPa", "Pa"];
const ENERGY_FLUX: &[&str] = &["W m-2"];
const PARTICLE_FLUX: &[&str] = &["umol m-2 s-1"];
const TEMPERATURE: &[&str] = &["degC"];

/// Description in lower case, standard name, and the units with which it is meant.
const STANDARD_NAMES: [(&str, &str, &[&str]); 36] = [
    (
        "co2 mixing ratio (dry mole fraction)",
        "mole_fraction_of_carbon_dioxide_in_air",
        FRACTION,
    ),
    (
        "ch4 mixing ratio (dry mole fraction)",
        "mole_fraction_of_methane_in_air",
        FRACTION,
    ),
    (
        "co mixing ratio (dry mole fraction)",
        "mole_fraction_of_carbon_monoxide_in_air",
        FRACTION,
    ),
    (
        "n2o mixing ratio (dry mole fraction)",
        "mole_fraction_of_nitrous_oxide_in_air",
        FRACTION,
    ),
    ("air temperature", "air_temperature", TEMPERATURE),
    ("soil temperature", "soil_temperature", TEMPERATURE),
    ("air pressure", "air_pressure", PRESSURE),
    ("atmospheric pressure", "air_pressure", PRESSURE),
    ("relative humidity", "relative_humidity", &["%"]),
    (
        "vapour pressure deficit",
        "water_vapor_saturation_deficit_in_air",
        PRESSURE,
    ),
    ("wind speed", "wind_speed", &["m s-1"]),
    ("wind direction", "wind_from_direction", &["degree"]),
    ("practical salinity", "sea_water_practical_salinity", &["1"]),
    ("latitude", "latitude", &["degree"]),
    ("longitude", "longitude", &["degree"]),
    (
        "precipitation (total)",
        "lwe_thickness_of_precipitation_amount",
        &["mm"],
    ),
    (
        "precipitation",
        "lwe_thickness_of_precipitation_amount",
        &["mm"],
    ),
    ("snow depth", "surface_snow_thickness", &["cm", "m"]),
    (
        "sensible heat flux",
        "surface_upward_sensible_heat_flux",
        ENERGY_FLUX,
    ),
    (
        "latent heat flux",
        "surface_upward_latent_heat_flux",
        ENERGY_FLUX,
    ),
    ("soil heat flux", "downward_heat_flux_in_soil", ENERGY_FLUX),
    (
        "incoming shortwave radiation",
        "surface_downwelling_shortwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "incoming shortwave radiation, pyranometer",
        "surface_downwelling_shortwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "incoming shortwave radiation, net radiometer",
        "surface_downwelling_shortwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "incoming longwave radiation",
        "surface_downwelling_longwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "incoming long-wave radiation, net radiometer",
        "surface_downwelling_longwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "outgoing shortwave radiation",
        "surface_upwelling_shortwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "outgoing shortwave radiation, net radiometer",
        "surface_upwelling_shortwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "outgoing longwave radiation",
        "surface_upwelling_longwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "outgoing long-wave radiation, net radiometer",
        "surface_upwelling_longwave_flux_in_air",
        ENERGY_FLUX,
    ),
    (
        "net radiation",
        "surface_net_downward_radiative_flux",
        ENERGY_FLUX,
    ),
    (
        "net radiation, net radiometer",
        "surface_net_downward_radiative_flux",
        ENERGY_FLUX,
    ),
    (
        "photosynthetic photon flux density incoming",
        "surface_downwelling_photosynthetic_photon_flux_in_air",
        PARTICLE_FLUX,
    ),
    (
        "net ecosystem exchange",
        "surface_upward_mole_flux_of_carbon_dioxide",
        PARTICLE_FLUX,
    ),
    (
        "co2 fugacity (water), sst",
        "fugacity_of_carbon_dioxide_in_sea_water",
        &["uatm"],
    ),
    (
        "radon concentration",
        "radioactivity_concentration_of_222Rn_in_air",
        &["Bq m-3"],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_translated_only_if_they_mean_the_same() {
        for (unit, expected) in [
            ("\u{b5}mol mol-1", Some("umol mol-1")),
            ("\u{3bc}mol m-2 s-1", Some("umol m-2 s-1")),
            ("\u{b0}C", Some("degC")),
            ("\u{b0}", Some("degree")),
            ("W m-2", Some("W m-2")),
            ("m3 s-1", Some("m3 s-1")),
            ("psu", Some("1")),
            ("per mil", Some("1e-3")),
            ("1", Some("1")),
            ("kgC m-2 month-1", None),
            ("mg N L-1", None),
            ("mg C L-1", None),
            ("%vsVSMOW", None),
            ("a.u.", None),
            ("FNU", None),
            ("", None),
            (" ", None),
            ("m-", None),
            ("m999", None),
        ] {
            assert_eq!(udunits(unit).as_deref(), expected, "{unit:?}");
        }
    }

    #[test]
    fn standard_names_depend_on_description_and_unit() {
        let name = |description, unit| standard_name(description, Some(unit));
        assert_eq!(name("Air temperature", "degC"), Some("air_temperature"));
        assert_eq!(name("air temperature", "m"), None);
        assert_eq!(name("standard deviation of air temperature", "degC"), None);
        assert_eq!(standard_name("air temperature", None), None);
    }
}
