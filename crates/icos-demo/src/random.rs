//! Seeded pseudo-random numbers: the same on every machine and in every run.
//!
//! Contents and faults are functions of seeds and names. None of this is fit
//! for secrets.

/// Returns `x` with its bits scattered (the finaliser of splitmix64).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

/// Returns a salt that distinguishes an object's values from those of others
/// with the same data type.
pub(crate) fn object_salt(seed: u64, name: &str, submitted: &str) -> u64 {
    mix(seed ^ hash(name) ^ hash(submitted).rotate_left(1))
}

/// Returns a salt that distinguishes a column's values from other columns'.
pub(crate) fn column_salt(object_salt: u64, name: &str) -> u64 {
    mix(object_salt ^ hash(name))
}

/// Returns the FNV-1a hash, which unlike the standard library's hashes is the
/// same on every machine.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}
