//! The command line as a user sees it: `tests/cli/*.md` are run as they are written. Verbs that
//! talk to the kernel are run elsewhere, in a network namespace of their own.
//!
//! `TRYCMD=overwrite` writes the outputs anew.

#[test]
fn commands_answer_as_written() {
    trycmd::TestCases::new()
        .default_bin_name("dfw")
        .env("NO_COLOR", "1")
        .case("tests/cli/*.md")
        .run();
}
