//! The rules do what the policy means.
//!
//! Random policies are compiled for a random host and asked about random packets near the edges of
//! what the policy says. `PROPTEST_CASES` tries more of them.

use dfw::analysis::eval::{Decision, evaluate};
use dfw::ruleset::check::check;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::reference::meaning;
use crate::reference::random::{Edges, host, meant, packets, range};

proptest! {
    #[test]
    fn the_rules_do_what_the_policy_means(policy in meant(), host in host(), seeds in packets()) {
        let ruleset = policy.compile(&host, false);
        prop_assert_eq!(check(&ruleset), Vec::<String>::new());
        let edges = Edges::of(&policy, &host);
        for packet in seeds.iter().map(|seed| edges.packet(seed)) {
            let trace = evaluate(&ruleset, &packet);
            prop_assert!(!trace.unknown);
            let meant = meaning(&policy, &host, &packet);
            prop_assert_eq!(trace.decision, meant, "{:#?}\n{:#?}\n{}", packet, trace, ruleset);
        }
    }

    #[test]
    fn order_does_not_matter(policy in meant(), host in host()) {
        let ruleset = policy.compile(&host, false);
        prop_assert_eq!(&policy.compile(&host, true), &ruleset);
        let mut turned = policy;
        turned.ports.reverse();
        turned.sources.iter_mut().for_each(|source| source.reverse());
        prop_assert_eq!(turned.compile(&host, false), ruleset);
    }

    #[test]
    fn an_added_source_takes_no_access_away(
        policy in meant(),
        host in host(),
        at in any::<Index>(),
        added in range(),
        seeds in packets(),
    ) {
        prop_assume!(!policy.ports.is_empty());
        let mut more = policy.clone();
        let index = at.index(more.ports.len());
        more.ports[index].allow.inline.push(added);
        let (less_rules, more_rules) = (policy.compile(&host, false), more.compile(&host, false));
        let edges = Edges::of(&more, &host);
        for packet in seeds.iter().map(|seed| edges.packet(seed)) {
            // Read the other way round: who is taken away lets nobody in.
            let let_in = evaluate(&less_rules, &packet).decision == Decision::Accept;
            let still = evaluate(&more_rules, &packet).decision == Decision::Accept;
            prop_assert!(still || !let_in, "{packet:#?}");
        }
    }
}
