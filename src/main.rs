//! The `icosfs` command.
fn main() {}
