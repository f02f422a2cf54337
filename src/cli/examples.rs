//! The examples below each help, for those who learn by them.

pub(super) const DFW: &str = "\
Options: --json  --color auto|always|never  -h, --help  -V, --version
`dfw VERB -h` has the options and examples of a verb, `dfw --help` a tour.";

pub(super) const TOUR: &str = "\
A tour:
  dfw audit                         who reaches what containers publish now?
  dfw init --allow 203.0.113.0/24   a first policy, of what is published now
  dfw check                         is it right?
  dfw plan                          what would change?
  dfw apply --confirm 60s           in force, and back unless you say yes
  dfw status                        what is in force, and whom it let in
  dfw guard                         keep it in force, whatever others do

Why does a packet not arrive?
  dfw explain --from 198.51.100.7 --to 443    what should become of it?
  dfw trace --from 198.51.100.7               what does become of it?
  dfw log                                     who is denied now?

Coming from rules that you have:
  (iptables-save; ip6tables-save) | dfw import --output /etc/dfw/policies

Options of every verb:
  --json           answer with JSON on stdout
  --color WHEN     auto (if not said), always or never; NO_COLOR is honoured
  -h, --help       the help of a verb, short or long
  -V, --version

Policies are read from /etc/dfw/policies if no other directory or file is named.

Exit codes:
   0  done
   1  failed: the kernel rejected the ruleset, no permission, an unreadable file
   2  the command line is wrong
   3  the policies have errors, and nothing was changed
  10  plan or diff --exit-code: there are changes
  11  a test of the policies failed and nothing was changed, or audit found a
      port that is open to any by no policy
  12  plan or diff --fail-on-open: somebody gains access, or may";

pub(super) const AUDIT: &str = "\
Examples:
  dfw audit                       what is open now, by the rules in force
  dfw audit --policy policies/    and what would be, with this policy";

pub(super) const INIT: &str = "\
Examples:
  dfw init                                     /etc/dfw/policies/published.yaml
  dfw init --allow 203.0.113.0/24 policies/    elsewhere, with somebody allowed";

pub(super) const IMPORT: &str = "\
Examples:
  (iptables-save; ip6tables-save) | dfw import
  dfw import rules.v4 rules.v6 --output policies/";

pub(super) const CHECK: &str = "\
Examples:
  dfw check                   the policies in /etc/dfw/policies
  dfw check policies/         another directory, or a single file
  dfw check --json policies/  for an editor or a pipeline";

pub(super) const TEST: &str = "\
Examples:
  dfw test policies/

A test in a policy:
  tests:
    - {from: 198.51.100.9, to: 5432, expect: deny}";

pub(super) const PLAN: &str = "\
Examples:
  dfw plan                         + comes, - goes, ~ changes
  dfw plan --exit-code policies/   10 if there are changes, 0 if not
  dfw plan --fail-on-open          12 if somebody gains access, or may";

pub(super) const DIFF: &str = "\
Examples:
  dfw diff old/ new/                             who gains access, who loses it
  dfw diff --fail-on-open main.yaml mine.yaml    12 if somebody gains access
  dfw diff --format github --fail-on-open old/ new/";

pub(super) const APPLY: &str = "\
Examples:
  dfw apply                            the policies in /etc/dfw/policies
  dfw apply --confirm 60s policies/    and back unless you say yes in time";

pub(super) const GUARD: &str = "\
Examples:
  systemctl enable --now dfw    as a service
  dfw guard policies/           until Ctrl-C; the rules stay in force";

pub(super) const STATUS: &str = "\
Examples:
  dfw status
  dfw status --json | jq '.installed.ports[] | select(.denied.packets > 0)'";

pub(super) const EXPLAIN: &str = "\
Examples:
  dfw explain --from 198.51.100.7 --to 443
  dfw explain --from 2001:db8::7 --to '[2001:db8::10]:53/udp'
  dfw explain --from 198.51.100.7 --to 443 --policy policies/";

pub(super) const TRACE: &str = "\
Examples:
  dfw trace --from 198.51.100.7          whatever comes from there
  dfw trace --to 443 --for 5m            whoever asks for the port
  dfw trace --to 53/udp --count 1";

pub(super) const LOG: &str = "\
Examples:
  dfw log
  dfw log --for 10s --json";

pub(super) const SHOW: &str = "\
Examples:
  dfw show                        the rules in force
  dfw show --policy policies/     those that a policy becomes
  dfw show --policy policies/ | nft --check --file -";

pub(super) const REMOVE: &str = "\
Examples:
  dfw remove        published ports are then as Docker and other rules have it";
