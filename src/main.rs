//! Keyward.
fn main(){}