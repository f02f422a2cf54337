//! The steps of a packet as text: each rule that decided or led on, and the elements by which.

use crate::ruleset::nft::span;
use crate::ruleset::{Rule, Ruleset};

use super::{Element, Hit, Step};

impl Step {
    /// `CHAIN: RULE  (COMMENT)` and, if elements of sets were found, a second line that begins with
    /// `with`. The rule is the one of `ruleset`, in which the step was taken.
    #[must_use]
    pub fn describe(&self, ruleset: &Ruleset) -> String {
        let rule = ruleset
            .chains
            .get(&self.chain)
            .and_then(|chain| chain.rules.get(self.rule));
        let rule = rule.map(|rule| Rule::new(rule.expressions.clone(), None).to_string());
        let hits: Vec<String> = self.hits.iter().map(Hit::to_string).collect();
        let hits = if hits.is_empty() {
            String::new()
        } else {
            format!("\n  with {}", hits.join(", "))
        };
        let comment = self
            .comment
            .as_ref()
            .map_or_else(String::new, |c| format!("  ({c})"));
        format!(
            "{}: {}{comment}{hits}",
            self.chain,
            rule.unwrap_or_default()
        )
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => f.write_str(name),
            Self::Addresses(first, last) => f.write_str(&span(*first, *last)),
            Self::Ports(first, last) if first == last => write!(f, "{first}"),
            Self::Ports(first, last) => write!(f, "{first}-{last}"),
            Self::PortAddresses(port, first, last) => {
                write!(f, "{port} . {}", span(*first, *last))
            }
        }
    }
}

impl std::fmt::Display for Hit {
    /// `ELEMENT in SET`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} in {}", self.element, self.set)
    }
}
