//! Pins what the compiler says about wrong registrations.
//!
//! The words after `error[E…]` belong to the compiler; a new toolchain may need
//! `TRYBUILD=overwrite cargo test --package tellwire-shop --test ui`, and a look at what changed.

#[test]
fn wrong_registrations_do_not_compile_and_say_why() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/derive_*.rs");
    cases.compile_fail("tests/ui/messages_*.rs");
}
