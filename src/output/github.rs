//! Annotations of a workflow run of GitHub, which it shows at the lines of a pull request.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

/// Returns the workflow command that annotates a place (a file, and a line and column from 1), in one line.
/// Levels are `error`, `warning` and `notice`.
#[must_use]
pub fn annotation(
    level: &str,
    place: Option<(&str, u32, u32)>,
    title: &str,
    message: &str,
) -> String {
    let place = place.map_or_else(String::new, |(file, line, column)| {
        format!("file={},line={line},col={column},", property(file))
    });
    let (title, message) = (property(title), data(message));
    format!("::{level} {place}title={title}::{message}\n")
}

/// Returns a message: what would end the command is escaped.
fn data(text: &str) -> String {
    text.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// Returns the value of a property: what would end it is escaped as well.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_ends_a_command_but_its_end() {
        let file = "a:b,c%\n::error::x";
        assert_eq!(
            annotation("error", Some((file, 3, 1)), "opens", "100%\r\n::warning::y"),
            "::error file=a%3Ab%2Cc%25%0A%3A%3Aerror%3A%3Ax,line=3,col=1,title=opens::100%25%0D%0A\
             ::warning::y\n"
        );
        assert_eq!(
            annotation("notice", None, "a", "b"),
            "::notice title=a::b\n"
        );
    }
}
