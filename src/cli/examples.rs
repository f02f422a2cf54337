//! The examples below the help of each command.

pub(super) const DFW: &str = "\
Options: --json --color -V. `dfw COMMAND -h`: examples. `dfw --help`: a tour.";

pub(super) const TOUR: &str = "\
A tour:
  dfw audit                         show who can reach published ports
  dfw init --allow 203.0.113.0/24   write a first policy
  dfw check                         validate it
  dfw plan                          show what would change
  dfw apply --confirm 60s           apply; roll back unless you confirm
  dfw status                        show the rules in force, with counters
  dfw guard                         keep the policies in force

Why does a packet not arrive?
  dfw explain --from 198.51.100.7 --to 443    what should happen to it?
  dfw trace --from 198.51.100.7               what actually happens?
  dfw log                                     which packets are denied now?

Migrating from iptables rules:
  (iptables-save; ip6tables-save) | dfw import --output /etc/dfw/policies

Options of every command:
  --json           print JSON on stdout
  --color WHEN     auto (default), always or never; NO_COLOR is honoured
  -h, --help       print short or long help
  -V, --version

Policies are read from /etc/dfw/policies by default.

Exit codes:
   0  done
   1  failed (kernel error, no permission, unreadable file), or the answer is
      incomplete
   2  wrong command line
   3  the policies have errors, with check --strict also warnings; nothing was
      changed
  10  plan or diff --exit-code: there are changes
  11  a test of the policies failed and nothing was changed, or audit found a
      port that is open to everyone without a policy entry
  12  plan or diff --fail-on-open: somebody gains access, or may gain it";

pub(super) const AUDIT: &str = "\
Examples:
  dfw audit                       with the rules in force
  dfw audit --policy policies/    as if this policy were in force
  dfw audit --html audit.html     also as a page with a picture";

pub(super) const INIT: &str = "\
Examples:
  dfw init                                     /etc/dfw/policies/published.yaml
  dfw init --allow 203.0.113.0/24 policies/    policies/published.yaml";

pub(super) const IMPORT: &str = "\
Examples:
  (iptables-save; ip6tables-save) | dfw import
  dfw import rules.v4 rules.v6 --output policies/";

pub(super) const CHECK: &str = "\
Examples:
  dfw check                   the policies in /etc/dfw/policies
  dfw check policies/         another directory, or a single file
  dfw check --strict          warnings are errors, too
  dfw check --json policies/  for editors and CI";

pub(super) const TEST: &str = "\
Examples:
  dfw test policies/

A test in a policy:
  tests:
    - {from: 198.51.100.9, to: 5432, expect: deny}";

pub(super) const PLAN: &str = "\
Examples:
  dfw plan                         + added, - removed, ~ changed
  dfw plan --exit-code policies/   exits with 10 if there are changes
  dfw plan --fail-on-open          12 if somebody gains access";

pub(super) const DIFF: &str = "\
Examples:
  dfw diff old/ new/                              who gains access, who loses it
  dfw diff --html review.html old.yaml new.yaml   also as a page
  dfw diff --format github --fail-on-open old/ new/";

pub(super) const APPLY: &str = "\
Examples:
  dfw apply                            the policies in /etc/dfw/policies
  dfw apply --confirm 60s policies/    roll back unless you confirm";

pub(super) const GUARD: &str = "\
Examples:
  systemctl enable --now dfw    as a service
  dfw guard policies/           in the foreground; the rules stay after Ctrl-C";

pub(super) const FETCH: &str = "\
Examples:
  dfw fetch                     all lists and names of /etc/dfw/policies
  dfw fetch --due policies/     those whose time has come, as a timer does
  dfw fetch --accept cdn        the list in the cache, although it loses much";

pub(super) const GRANT: &str = "\
Examples:
  dfw grant add 198.51.100.7 --to 5432 --for 2h --reason 'vendor call'
  dfw grant list
  dfw grant revoke 198.51.100.7";

pub(super) const GRANT_ADD: &str = "\
Examples:
  dfw grant add 198.51.100.7 --to 5432 --for 2h --reason 'vendor call'
  dfw grant add 203.0.113.0/24 2001:db8::7 --to 8000-8010 --for 1d";

pub(super) const GRANT_LIST: &str = "\
Examples:
  dfw grant list
  dfw grant list --json | jq '.grants[].reason'";

pub(super) const GRANT_REVOKE: &str = "\
Examples:
  dfw grant revoke 3                 the grant with this number
  dfw grant revoke 198.51.100.0/24   all of this network and of addresses in it";

pub(super) const BUNDLE: &str = "\
Examples:
  dfw bundle create policies/ --site prod --generation 7 --serial 12 -o new/
  dfw bundle verify new/ --trusted-key policy.pub
  dfw bundle renew new/ --trusted-key policy.pub -o head
  dfw diff old/ new/ --host-id web-1    what the new bundle opens there";

pub(super) const FLEET: &str = "\
Examples:
  export DFW_STORE=etcd://etcd-1,etcd-2,etcd-3/prod
  dfw fleet init --host web-1 --host web-2
  dfw fleet push policies/ --secret-key policy.key --stage canary --stage 25%";

pub(super) const STATUS: &str = "\
Examples:
  dfw status
  dfw status --json | jq '.problems[].text'
  dfw status --json | jq '.installed.ports[] | select(.denied.packets > 0)'";

pub(super) const EXPLAIN: &str = "\
Examples:
  dfw explain --from 198.51.100.7 --to 443
  dfw explain --from 198.51.100.7     every port that it reaches
  dfw explain --to 443                every address that reaches it
  dfw explain --from 2001:db8::7 --to '[2001:db8::10]:53/udp'
  dfw explain --from 198.51.100.7 --to 443 --policy policies/";

pub(super) const TRACE: &str = "\
Examples:
  dfw trace --from 198.51.100.7          packets from this address
  dfw trace --to 443 --for 5m            packets to this port
  dfw trace --to 53/udp --count 1        the next packet to this port";

pub(super) const LOG: &str = "\
Examples:
  dfw log
  dfw log --for 10s --json";

pub(super) const SHOW: &str = "\
Examples:
  dfw show                        the rules in force
  dfw show --policy policies/     the rules of a policy
  dfw show --policy policies/ | nft --check --file -";

pub(super) const REMOVE: &str = "\
Examples:
  dfw remove        published ports are then open unless other rules deny them";
